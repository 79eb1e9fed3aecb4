// AnyValues: any value format behind one type, chosen at run time. Calls are per block or tile, never per token.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class AnyValues {
  struct Sum {
    Sum() = default;
    Sum(const Sum&) = delete;
    Sum& operator=(const Sum&) = delete;
    virtual ~Sum() = default;
  };
  struct Interface {
    Interface() = default;
    Interface(const Interface&) = delete;
    Interface& operator=(const Interface&) = delete;
    virtual ~Interface() = default;
    virtual std::size_t dim() const noexcept = 0;
    virtual std::size_t block_bytes() const noexcept = 0;
    virtual std::size_t codebook_bytes() const noexcept = 0;
    virtual std::uint64_t codebook_id() const noexcept = 0;
    virtual std::string describe() const = 0;
    virtual void encode(FloatRows rows, std::byte* block) const noexcept = 0;
    virtual bool wants_saliency() const noexcept = 0;
    virtual void encode(FloatRows rows, const float* saliency, std::byte* block) const noexcept = 0;
    virtual void decode(const std::byte* block, std::size_t index, float* row) const noexcept = 0;
    virtual bool rows_move() const noexcept = 0;
    virtual void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept = 0;
    virtual const void* kind() const noexcept = 0;
    virtual std::unique_ptr<Sum> make_sum() const = 0;
    virtual void begin(Sum& sum, std::size_t queries) const = 0;
    virtual void rescale(Sum& sum, const float* factors) const noexcept = 0;
    virtual void add(Sum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept = 0;
    virtual void finish(Sum& sum, float* outs, std::size_t stride) const noexcept = 0;
  };
  template <ValuePolicy P>
  struct Model final : Interface {
    struct ModelSum final : Sum {
      typename P::WeightedSum sum;
    };
    explicit Model(P held) : policy(std::move(held)) {}
    std::size_t dim() const noexcept override { return policy.dim(); }
    std::size_t block_bytes() const noexcept override { return policy.block_bytes(); }
    std::size_t codebook_bytes() const noexcept override { return policy.codebook_bytes(); }
    std::uint64_t codebook_id() const noexcept override {
      if constexpr (requires { policy.codebook_id(); }) return policy.codebook_id();
      return 0;
    }
    std::string describe() const override { return policy.describe(); }
    void encode(FloatRows rows, std::byte* block) const noexcept override {
      policy.encode(rows, block);
    }
    bool wants_saliency() const noexcept override { return pqkv::wants_saliency(policy); }
    void encode(FloatRows rows, const float* saliency, std::byte* block) const noexcept override {
      encode_values(policy, rows, saliency, block);
    }
    void decode(const std::byte* block, std::size_t index, float* row) const noexcept override {
      policy.decode(block, index, row);
    }
    bool rows_move() const noexcept override {
      if constexpr (RowMovable<P>) return policy.rows_move();
      return false;
    }
    void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept override {
      if constexpr (RowMovable<P>) policy.copy_row(from, index, to, to_index);
    }
    const void* kind() const noexcept override {
      static const char tag = 0;
      return &tag;
    }
    std::unique_ptr<Sum> make_sum() const override { return std::make_unique<ModelSum>(); }
    void begin(Sum& sum, std::size_t queries) const override { policy.begin(unwrap(sum), queries); }
    void rescale(Sum& sum, const float* factors) const noexcept override { policy.rescale(unwrap(sum), factors); }
    void add(Sum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept override {
      policy.add(unwrap(sum), span, weights, stride);
    }
    void finish(Sum& sum, float* outs, std::size_t stride) const noexcept override {
      policy.finish(unwrap(sum), outs, stride);
    }
    static typename P::WeightedSum& unwrap(Sum& sum) noexcept { return static_cast<ModelSum&>(sum).sum; }
    P policy;
  };

 public:
  /// The sum of whichever format began it last; re-made when heads of another format use the same workspace.
  struct WeightedSum {
    std::unique_ptr<Sum> sum;
    const void* kind = nullptr;
  };

  template <class P>
    requires(!std::same_as<P, AnyValues>) && ValuePolicy<P>
  AnyValues(P policy)  // NOLINT(google-explicit-constructor)
      : policy_(std::make_shared<const Model<P>>(std::move(policy))) {}

  [[nodiscard]] std::size_t dim() const noexcept { return policy_->dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return policy_->block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return policy_->codebook_bytes(); }
  /// 0 for formats without codebooks.
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return policy_->codebook_id(); }
  [[nodiscard]] std::string describe() const { return policy_->describe(); }
  void encode(FloatRows rows, std::byte* block) const noexcept {
    policy_->encode(rows, block);
  }
  /// False for formats that are not SaliencyAware, whose rows are encoded all alike.
  [[nodiscard]] bool wants_saliency() const noexcept { return policy_->wants_saliency(); }
  void encode(FloatRows rows, const float* saliency, std::byte* block) const noexcept {
    policy_->encode(rows, saliency, block);
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    policy_->decode(block, index, row);
  }
  /// False for formats that are not RowMovable.
  [[nodiscard]] bool rows_move() const noexcept { return policy_->rows_move(); }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    PQKV_EXPECTS(rows_move());
    policy_->copy_row(from, index, to, to_index);
  }
  void begin(WeightedSum& sum, std::size_t queries) const {
    if (sum.kind != policy_->kind()) {
      sum.sum = policy_->make_sum();
      sum.kind = policy_->kind();
    }
    policy_->begin(*sum.sum, queries);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { policy_->rescale(*sum.sum, factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    policy_->add(*sum.sum, span, weights, stride);
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    policy_->finish(*sum.sum, outs, stride);
  }

 private:
  std::shared_ptr<const Interface> policy_;
};

static_assert(ValuePolicy<AnyValues> && SaliencyAware<AnyValues>);

}  // namespace pqkv::inline PQKV_ABI
