#include "waveq/graph/error.h"

namespace waveq {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::io:
      return "io";
    case ErrorCode::parse:
      return "parse";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::shape:
      return "shape";
    case ErrorCode::data:
      return "data";
    case ErrorCode::not_integer:
      return "not_integer";
    case ErrorCode::overflow:
      return "overflow";
    case ErrorCode::mismatch:
      return "mismatch";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

Error::Error(ErrorCode code, std::string where, std::string what, std::string hint)
    : code_(code), where_(std::move(where)), found_(std::move(what)), hint_(std::move(hint)) {
  compose();
}

Error& Error::while_doing(std::string context) {
  context_.push_back(std::move(context));
  compose();
  return *this;
}

void Error::compose() {
  message_ = where_.empty() ? found_ : where_ + ": " + found_;
  if (!hint_.empty()) message_ += "; " + hint_;
  for (const std::string& line : context_) message_ += "\n  while " + line;
}

}  // namespace waveq
