#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace waveq {

/// What kind of thing went wrong; the command line maps it to an exit code (product.md 2).
enum class ErrorCode {
  invalid_argument,  ///< a caller's value is out of its stated range
  io,                ///< a file cannot be read or written
  parse,             ///< bytes are not what their format says
  unsupported,       ///< valid input that waveq has no implementation for
  shape,             ///< shapes or dtypes of operands do not fit together
  data,              ///< calibration, evaluation or input data are unusable
  not_integer,       ///< nodes that cannot be made integer, or that the target lacks
  overflow,          ///< a value leaves, or cannot be shown to stay in, its integer type
  mismatch,          ///< a golden or accuracy gate is missed
  internal,          ///< a broken invariant of waveq itself
};

/// Name of a code as printed and as seen from Python, e.g. "invalid_argument".
std::string_view to_string(ErrorCode code);

/// The one exception type. `what()` reads "where: what; hint" followed by one "  while ..." line
/// for each context, innermost first.
class Error : public std::exception {
 public:
  /// `where`: node, tensor or file as the user knows it. `what`: what was found.
  /// `hint`: what to do about it; may be empty.
  Error(ErrorCode code, std::string where, std::string what, std::string hint = {});

  ErrorCode code() const { return code_; }
  const std::string& where() const { return where_; }
  const std::string& found() const { return found_; }
  const std::string& hint() const { return hint_; }
  const std::vector<std::string>& context() const { return context_; }
  const char* what() const noexcept override { return message_.c_str(); }

  /// Adds a "while ..." line; returns *this so that `throw e.while_doing(...)` reads well.
  Error& while_doing(std::string context);

 private:
  void compose();

  ErrorCode code_;
  std::string where_, found_, hint_;
  std::vector<std::string> context_;
  std::string message_;
};

/// Checks an invariant of waveq itself; a failure is our bug, never the user's.
#define WAVEQ_CHECK(condition)                                                                \
  do {                                                                                        \
    if (!(condition))                                                                         \
      throw ::waveq::Error(::waveq::ErrorCode::internal,                                      \
                           std::string(__FILE__) + ":" + std::to_string(__LINE__),            \
                           "invariant '" #condition "' does not hold", "please report this"); \
  } while (false)

}  // namespace waveq
