// Errors of the world (files, shapes, training data, memory) as values: Result<T> and Status. Layer 0.
// The library neither throws nor prints. Broken rules of the caller are PQKV_EXPECTS, not errors.
#pragma once

#include <concepts>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "pqkv/base/expects.hpp"

namespace pqkv::inline PQKV_ABI {

/// What kind of thing went wrong; the message of Error has the numbers.
enum class Errc {
  invalid_shape,      ///< a dimension, count or stride does not fit
  invalid_parameter,  ///< an option is out of range or unknown
  invalid_data,       ///< NaN or infinite numbers, or rows that cannot be used
  too_few_samples,    ///< fewer training rows than centroids
  out_of_memory,      ///< an allocation failed; the object is as it was before
  cache_full,         ///< the cache's token limit is reached; nothing was appended
  bad_file,           ///< a file is missing, truncated, corrupt or of a foreign kind
  stopped,            ///< the progress callback asked to stop
};

/// An error: its kind, and a message for a person that names the numbers.
struct Error {
  Errc code{};
  std::string message;
};

namespace detail {

/// One part of a message: text or a number.
class MessagePart {
 public:
  MessagePart(std::string_view text) noexcept : text_(text), kind_(Kind::text) {}  // NOLINT(google-explicit-constructor)
  MessagePart(const char* text) noexcept : MessagePart(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)
  MessagePart(const std::string& text) noexcept : MessagePart(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)
  template <std::signed_integral T>
  MessagePart(T number) noexcept : whole_(number), kind_(Kind::whole) {}  // NOLINT(google-explicit-constructor)
  template <std::unsigned_integral T>
  MessagePart(T number) noexcept : natural_(number), kind_(Kind::natural) {}  // NOLINT(google-explicit-constructor)
  template <std::floating_point T>
  MessagePart(T number) noexcept  // NOLINT(google-explicit-constructor)
      : real_(static_cast<double>(number)), kind_(Kind::real) {}

  void append_to(std::string& out) const {
    switch (kind_) {
      case Kind::text: out += text_; break;
      case Kind::whole: out += std::to_string(whole_); break;
      case Kind::natural: out += std::to_string(natural_); break;
      case Kind::real: out += std::to_string(real_); break;
    }
  }

 private:
  enum class Kind { text, whole, natural, real };
  std::string_view text_{};
  union {
    long long whole_ = 0;
    unsigned long long natural_;
    double real_;
  };
  Kind kind_;
};

[[nodiscard]] inline std::string join(std::initializer_list<MessagePart> parts) {
  std::string text;
  for (const MessagePart& part : parts) part.append_to(text);
  return text;
}

}  // namespace detail

/// Joins text and numbers into one message: `message("dim ", 80, " is odd")`.
template <class... Parts>
[[nodiscard]] std::string message(const Parts&... parts) {
  return detail::join({detail::MessagePart(parts)...});
}

/// A value of type T, or an Error.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }

  /// Expects has_value().
  [[nodiscard]] T& value() & noexcept {
    PQKV_EXPECTS(has_value());
    return *value_;
  }
  [[nodiscard]] const T& value() const& noexcept {
    PQKV_EXPECTS(has_value());
    return *value_;
  }
  /// By value, so that `for (x : make().value())` does not outlive what it loops over.
  [[nodiscard]] T value() && noexcept {
    PQKV_EXPECTS(has_value());
    return std::move(*value_);
  }
  [[nodiscard]] T& operator*() & noexcept { return value(); }
  [[nodiscard]] const T& operator*() const& noexcept { return value(); }
  [[nodiscard]] T* operator->() noexcept { return &value(); }
  [[nodiscard]] const T* operator->() const noexcept { return &value(); }

  /// Expects !has_value().
  [[nodiscard]] const Error& error() const noexcept {
    PQKV_EXPECTS(!has_value());
    return error_;
  }

 private:
  std::optional<T> value_;  // an optional beside the error, because std::variant takes several times as long to compile
  Error error_{};
};

/// Success, or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)), failed_(true) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return ok(); }
  /// Expects !ok().
  [[nodiscard]] const Error& error() const noexcept {
    PQKV_EXPECTS(failed_);
    return error_;
  }

 private:
  Error error_{};
  bool failed_ = false;
};

}  // namespace pqkv::inline PQKV_ABI
