#include "input_families.h"

#include <algorithm>
#include <cmath>

namespace waveq {

double InputFamilies::Input::reach() const {
  return std::max(std::abs(static_cast<double>(range.lo)), std::abs(static_cast<double>(range.hi)));
}

InputFamilies::InputFamilies(const Graph& graph, std::uint64_t seed) : engine_(seed) {
  BoundsAnalysis bounds(graph);
  for (ValueId in : graph.inputs()) {
    const TensorType& type = graph.value(in).type;
    const bool is_float = type.dtype == DType::f32;  // before a Quant
    inputs_.push_back({type, is_float ? Interval{-128, 127} : bounds.of(in).hull()});
  }
}

double InputFamilies::uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

double InputFamilies::normal() {
  // Twelve uniforms: exact in doubles, which a logarithm need not be.
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform();
  return sum;
}

std::size_t InputFamilies::below(std::size_t n) {
  return n == 0 ? 0 : static_cast<std::size_t>(engine_() % n);
}

double InputFamilies::power_of_two(double least, double most) {
  // Whole octaves, with a uniform position inside: no exp2, whose last bit depends on the host.
  const double octave = std::floor(least + (most - least) * uniform());
  return std::ldexp(1 + uniform(), static_cast<int>(octave));
}

InputFamilies::Values InputFamilies::periodic(const Input& input, std::size_t count, bool ramps) {
  const auto period = static_cast<std::size_t>(power_of_two(0, 9));
  const double amplitude = input.reach() * (below(2) ? 1.0 : uniform());
  const double offset = below(2) ? 0.0 : input.reach() * (2 * uniform() - 1);
  const std::size_t phase = below(2 * period);
  Values values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = (i + phase) % (2 * period);
    const bool rising = at < period;
    const double along =
        static_cast<double>(rising ? at : 2 * period - at) / static_cast<double>(period);
    values[i] = offset + amplitude * (ramps ? 2 * along - 1 : rising ? 1.0 : -1.0);
  }
  return values;
}

InputFamilies::Values InputFamilies::family(std::size_t index, const Input& input,
                                            std::size_t count) {
  const double reach = input.reach();
  constexpr std::size_t kFamilies = 7;
  Values values(count, 0.0);
  switch (index % kFamilies) {
    case 0: {  // Constant: the ends and zero first.
      const double ends[] = {0, static_cast<double>(input.range.hi),
                             static_cast<double>(input.range.lo)};
      const std::size_t round = index / kFamilies;
      const double value = round < 3 ? ends[round] : reach * (2 * uniform() - 1);
      std::ranges::fill(values, value);
      break;
    }
    case 1: {  // Gaussian, from a 64th of the range to all of it.
      const double sigma = reach * power_of_two(-6, 0);
      for (double& v : values) v = sigma * normal();
      break;
    }
    case 2:  // Uniform, also in a part of the range.
    {
      const double amplitude = below(2) ? reach : reach * uniform();
      for (double& v : values) v = amplitude * (2 * uniform() - 1);
      break;
    }
    case 3: {  // Impulses.
      const double density = power_of_two(-9, -1), amplitude = reach * (below(2) ? 1 : uniform());
      for (double& v : values)
        if (uniform() < density) v = below(2) ? amplitude : -amplitude;
      break;
    }
    case 4:
      return periodic(input, count, false);
    case 5:
      return periodic(input, count, true);
    default: {  // Gaussian around a level.
      const double sigma = reach * power_of_two(-6, 0), level = reach * (2 * uniform() - 1);
      for (double& v : values) v = level + sigma * normal();
    }
  }
  return values;
}

Tensor InputFamilies::stored(const Input& input, const Values& values) const {
  std::vector<std::int64_t> codes(values.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    codes[i] = static_cast<std::int64_t>(std::clamp(std::floor(values[i] + 0.5),
                                                    static_cast<double>(input.range.lo),
                                                    static_cast<double>(input.range.hi)));
  return cast(Tensor::from<std::int64_t>(input.type.shape, codes), input.type.dtype);
}

std::vector<Tensor> InputFamilies::draw(std::size_t index) {
  std::vector<Tensor> sample;
  for (const Input& input : inputs_)
    sample.push_back(stored(
        input, family(index, input, static_cast<std::size_t>(element_count(input.type.shape)))));
  return sample;
}

std::vector<Tensor> InputFamilies::changed(const std::vector<Tensor>& sample) {
  std::vector<Tensor> result = sample;
  const std::size_t which = below(inputs_.size());
  const Input& input = inputs_[which];
  Values values = to_double(sample[which]);
  const std::size_t length = std::min(
      values.size(),
      static_cast<std::size_t>(static_cast<double>(values.size()) * power_of_two(-9, 0)) + 1);
  const std::size_t start = below(values.size() - length + 1);
  const Values fresh = family(below(64), input, length);
  const std::size_t kind = below(5);
  const double factor = power_of_two(-2, 1), level = input.reach() * normal() / 8;
  for (std::size_t i = 0; i < length; ++i) {
    double& v = values[start + i];
    v = kind == 0   ? fresh[i]
        : kind == 1 ? factor * v
        : kind == 2 ? -v
        : kind == 3 ? v + level
                    : v + fresh[i] / 8;
  }
  result[which] = stored(input, values);
  return result;
}

}  // namespace waveq
