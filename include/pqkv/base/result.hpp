// Errors of the world (files, shapes, training data, memory) as values: Result<T> and Status. Layer 0.
// The library neither throws nor prints. Broken rules of the caller are PQKV_EXPECTS, not errors.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

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
  Errc code;
  std::string message;
};

/// Joins text and integers into one message: `message("dim ", 80, " is odd")`.
template <class... Parts>
[[nodiscard]] std::string message(const Parts&... parts) {
  std::string text;
  const auto add = [&text](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(part)>>) {
      text += std::to_string(part);
    } else {
      text += std::string_view(part);
    }
  };
  (add(parts), ...);
  return text;
}

/// A value of type T, or an Error.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  /// Expects has_value().
  [[nodiscard]] T& value() & noexcept {
    PQKV_EXPECTS(has_value());
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& noexcept {
    PQKV_EXPECTS(has_value());
    return *std::get_if<0>(&state_);
  }
  /// By value, so that `for (x : make().value())` does not outlive what it loops over.
  [[nodiscard]] T value() && noexcept {
    PQKV_EXPECTS(has_value());
    return std::move(*std::get_if<0>(&state_));
  }
  [[nodiscard]] T& operator*() & noexcept { return value(); }
  [[nodiscard]] const T& operator*() const& noexcept { return value(); }
  [[nodiscard]] T* operator->() noexcept { return &value(); }
  [[nodiscard]] const T* operator->() const noexcept { return &value(); }

  /// Expects !has_value().
  [[nodiscard]] const Error& error() const noexcept {
    PQKV_EXPECTS(!has_value());
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
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
