// AnyKeys: any key format behind one type, chosen at run time. Calls are per block or tile, never per token.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class AnyKeys {
  struct Table {
    Table() = default;
    Table(const Table&) = delete;
    Table& operator=(const Table&) = delete;
    virtual ~Table() = default;
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
    virtual std::size_t run_tokens() const noexcept = 0;
    virtual std::string describe() const = 0;
    virtual void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept = 0;
    virtual void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept = 0;
    virtual bool rows_move() const noexcept = 0;
    virtual bool needs_origin() const noexcept = 0;
    virtual void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept = 0;
    virtual const void* kind() const noexcept = 0;
    virtual std::unique_ptr<Table> make_table() const = 0;
    virtual void prepare(Table& table, FloatRows queries) const = 0;
    virtual void turn(Table& table, std::int64_t origin) const noexcept = 0;
    virtual void score(const Table& table, BlockSpan span, float* scores, std::size_t stride) const noexcept = 0;
    virtual void bound(const Table& table, std::size_t queries, float* scores) const noexcept = 0;
  };
  template <KeyPolicy P>
  struct Model final : Interface {
    struct ModelTable final : Table {
      typename P::QueryTable table;
    };
    explicit Model(P held) : policy(std::move(held)) {}
    std::size_t dim() const noexcept override { return policy.dim(); }
    std::size_t block_bytes() const noexcept override { return policy.block_bytes(); }
    std::size_t codebook_bytes() const noexcept override { return policy.codebook_bytes(); }
    std::uint64_t codebook_id() const noexcept override {
      if constexpr (requires { policy.codebook_id(); }) return policy.codebook_id();
      return 0;
    }
    std::size_t run_tokens() const noexcept override { return policy.run_tokens(); }
    std::string describe() const override { return policy.describe(); }
    void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept override {
      policy.encode(rows, place, block);
    }
    void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept override {
      policy.decode(block, index, place, row);
    }
    bool rows_move() const noexcept override {
      if constexpr (RowMovable<P>) return policy.rows_move();
      return false;
    }
    bool needs_origin() const noexcept override { return pqkv::needs_origin(policy); }
    void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept override {
      if constexpr (RowMovable<P>) policy.copy_row(from, index, to, to_index);
    }
    const void* kind() const noexcept override {
      static const char tag = 0;
      return &tag;
    }
    std::unique_ptr<Table> make_table() const override { return std::make_unique<ModelTable>(); }
    void prepare(Table& table, FloatRows queries) const override {
      policy.prepare(static_cast<ModelTable&>(table).table, queries);
    }
    void turn(Table& table, std::int64_t origin) const noexcept override {
      policy.turn(static_cast<ModelTable&>(table).table, origin);
    }
    void score(const Table& table, BlockSpan span, float* scores, std::size_t stride) const noexcept override {
      policy.score(static_cast<const ModelTable&>(table).table, span, scores, stride);
    }
    void bound(const Table& table, std::size_t queries, float* scores) const noexcept override {
      if constexpr (Bounded<P>) {
        policy.bound(static_cast<const ModelTable&>(table).table, scores);
      } else {
        std::fill_n(scores, queries, std::numeric_limits<float>::max());
      }
    }
    P policy;
  };

 public:
  /// The table of whichever format prepared it last; re-made when heads of another format use the same workspace.
  struct QueryTable {
    std::unique_ptr<Table> table;
    const void* kind = nullptr;
    std::size_t queries = 0;
  };

  template <class P>
    requires(!std::same_as<P, AnyKeys>) && KeyPolicy<P>
  AnyKeys(P policy)  // NOLINT(google-explicit-constructor)
      : policy_(std::make_shared<const Model<P>>(std::move(policy))) {}

  [[nodiscard]] std::size_t dim() const noexcept { return policy_->dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return policy_->block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return policy_->codebook_bytes(); }
  /// 0 for formats without codebooks.
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return policy_->codebook_id(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return policy_->run_tokens(); }
  [[nodiscard]] std::string describe() const { return policy_->describe(); }
  void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept {
    policy_->encode(rows, place, block);
  }
  void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept {
    policy_->decode(block, index, place, row);
  }
  /// False for formats that are not RowMovable.
  [[nodiscard]] bool rows_move() const noexcept { return policy_->rows_move(); }
  [[nodiscard]] bool needs_origin() const noexcept { return policy_->needs_origin(); }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    PQKV_EXPECTS(rows_move());
    policy_->copy_row(from, index, to, to_index);
  }
  void prepare(QueryTable& table, FloatRows queries) const {
    if (table.kind != policy_->kind()) {
      table.table = policy_->make_table();
      table.kind = policy_->kind();
    }
    table.queries = queries.count;
    policy_->prepare(*table.table, queries);
  }
  void turn(QueryTable& table, std::int64_t origin) const noexcept { policy_->turn(*table.table, origin); }
  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    policy_->score(*table.table, span, scores, stride);
  }
  /// The largest float where the format has no bound.
  void bound(const QueryTable& table, float* scores) const noexcept { policy_->bound(*table.table, table.queries, scores); }

 private:
  std::shared_ptr<const Interface> policy_;
};

static_assert(KeyPolicy<AnyKeys> && Bounded<AnyKeys>);

}  // namespace pqkv::inline PQKV_ABI
