#pragma once

#include <functional>
#include <string>
#include <vector>

#include "small_job.h"
#include "waveq/graph/graph.h"

/// Integer networks of a few nodes for the tests of targets and legalizations.
namespace waveq::test {

struct Net {
  Graph g;
  Net() { g.opset = 10; }
  ValueId in(Shape shape, DType dtype = DType::i8) {
    return g.add_input("x", {dtype, std::move(shape)});
  }
  /// A constant of equal elements.
  template <class T = std::int8_t>
  ValueId c(Shape shape, T value = 1) {
    const auto n = static_cast<std::size_t>(element_count(shape));
    return g.add_constant("c", Tensor::from<T>(std::move(shape), std::vector<T>(n, value)));
  }
  /// A constant whose elements all differ from their neighbours.
  template <class T = std::int8_t>
  ValueId varied(Shape shape, int start = 1) {
    std::vector<T> values(static_cast<std::size_t>(element_count(shape)));
    int i = start;
    for (T& v : values) v = static_cast<T>((i++ * 37) % 61 - 30);
    return g.add_constant("c", Tensor::from<T>(std::move(shape), values));
  }
  ValueId ints(const Ints& values) {
    return g.add_constant(
        "s", Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values));
  }
  ValueId op(const std::string& name, std::vector<ValueId> inputs, Attrs attrs = {}) {
    return g.emit(name, name, std::move(inputs), std::move(attrs));
  }
  ValueId requant(ValueId x, ValueId mul, ValueId add, std::int64_t div = 64,
                  std::int64_t is_signed = 1, std::int64_t levels = 256) {
    return op("RequantShift", {x, mul, add},
              attributes({{"div", div}, {"n_levels_out", levels}, {"signed", is_signed}}));
  }
  /// One multiplier, no add.
  ValueId requant(ValueId x, std::int32_t mul, std::int64_t div, std::int64_t is_signed = 1) {
    return requant(x, c<std::int32_t>({}, mul), c<std::int32_t>({}, 0), div, is_signed);
  }
};

using Build = std::function<ValueId(Net&)>;

}  // namespace waveq::test
