#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "waveq/graph/tensor.h"

namespace waveq {

/// Tensors of one name over all samples, joined along the sample axis.
class SampleStack {
 public:
  void push(const Tensor& t) {
    if (parts_ == 0) type_ = t.type();
    ++parts_;
    bytes_.insert(bytes_.end(), t.bytes().begin(), t.bytes().end());
  }
  /// [N, S[1:]] where S[0] is 1, else [N, S...].
  Tensor joined() const {
    Shape shape = type_.shape;
    if (!shape.empty() && shape.front() == 1)
      shape.front() = parts_;
    else
      shape.insert(shape.begin(), parts_);
    Tensor out(type_.dtype, shape);
    std::ranges::copy(bytes_, out.bytes().begin());
    return out;
  }

 private:
  TensorType type_;
  std::int64_t parts_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace waveq
