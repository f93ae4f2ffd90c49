#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lowering.h"

namespace waveq {

std::size_t DeferredLinear::channels() const {
  const std::size_t axis = op == "MatMul" ? weights.shape().size() - 1 : 0;
  return static_cast<std::size_t>(weights.shape()[axis]);
}

namespace {

/// Accumulator scale per channel, or one where the weights share a scale.
std::vector<double> accumulator_scale(const DeferredLinear& linear, const QuantizedWeights& w) {
  std::vector<double> scale;
  for (double s : w.scale) scale.push_back(s * linear.x_scale);
  return scale;
}

double scale_of(const std::vector<double>& scale, std::size_t channel) {
  return scale[scale.size() > 1 ? channel : 0];
}

/// sum_k w[c,k]*z[k]: what x's zero points add to the accumulator of channel c. Filters [C,K,...]
/// have one a channel k of x where there are several.
std::vector<std::int64_t> zero_point_sums(const DeferredLinear& linear, const Tensor& codes) {
  const std::vector<std::int64_t> q = to_int64(codes);
  std::vector<std::int64_t> sums(linear.channels(), 0);
  const std::vector<std::int64_t>& z = linear.x_zero_points;
  const std::size_t each = q.size() / sums.size(), taps = each / z.size();
  for (std::size_t i = 0; i < q.size(); ++i)
    sums[linear.op == "MatMul" ? i % sums.size() : i / each] +=
        q[i] * (z.size() > 1 ? z[i % each / taps] : z.front());
  return sums;
}

/// What rounding the weights takes from the mean of each output channel, real:
///   e[c] = sum_k (w[c,k] - s[c]*q[c,k]) * mean(x[k]).
/// Padding, which only the edges see, counts as data. Source: bias correction of Nagel, van Baalen,
/// Blankevoort and Welling 2019 (arXiv 1906.04721), with measured means.
std::vector<double> lost_means(const DeferredLinear& linear, const QuantizedWeights& weights) {
  std::vector<double> lost(linear.channels(), 0.0);
  const std::vector<std::int64_t> q = to_int64(weights.q);
  const auto real = linear.weights.as<float>();
  const bool by_columns = linear.op == "MatMul";
  const std::size_t each = q.size() / lost.size();
  const std::size_t inputs = static_cast<std::size_t>(linear.weights.shape()[by_columns ? 0 : 1]),
                    taps = each / inputs,
                    outputs_of_group = lost.size() * inputs / linear.x_means.size();
  for (std::size_t i = 0; i < q.size(); ++i) {
    const std::size_t c = by_columns ? i % lost.size() : i / each,
                      k = by_columns ? i / lost.size()
                                     : c / outputs_of_group * inputs + i % each / taps;
    lost[c] +=
        (real[i] - static_cast<double>(q[i]) * scale_of(weights.scale, c)) * linear.x_means[k];
  }
  return lost;
}

/// The constant term of each channel in accumulator steps, rounded,
///   b[c] = round((bias[c] + e[c]) / scale[c]) - sum_k w[c,k]*z[k],
/// as sum_k w*(x - z) = sum_k w*x - sum_k w*z with x's zero points z, and with e of lost_means
/// where biases are corrected; empty where there is none.
std::vector<double> offset_steps(const DeferredLinear& linear, const QuantizedWeights& weights,
                                 const std::vector<double>& scale) {
  if (!linear.has_offset()) return {};
  std::vector<double> steps = linear.bias;
  steps.resize(linear.channels(), 0.0);
  if (linear.corrects_bias()) {
    const std::vector<double> lost = lost_means(linear, weights);
    for (std::size_t c = 0; c < steps.size(); ++c) steps[c] += lost[c];
  }
  for (std::size_t c = 0; c < steps.size(); ++c)
    steps[c] = std::floor(steps[c] / scale_of(scale, c) + 0.5);
  if (linear.x_zero_points.empty()) return steps;
  const std::vector<std::int64_t> sums = zero_point_sums(linear, weights.q);
  for (std::size_t c = 0; c < steps.size(); ++c) steps[c] -= static_cast<double>(sums[c]);
  return steps;
}

/// The same for the operators that apply it themselves.
std::vector<std::int32_t> integer_bias(const DeferredLinear& linear,
                                       const QuantizedWeights& weights,
                                       const std::vector<double>& scale) {
  std::vector<std::int32_t> q;
  if (linear.bias_in_requant) return q;
  const std::vector<double> steps = offset_steps(linear, weights, scale);
  for (std::size_t c = 0; c < steps.size(); ++c) {
    const double rounded = steps[c];
    // Integers travel as float32, which is exact up to 2^24.
    if (std::abs(rounded) > 16777216.0)
      throw Error(ErrorCode::overflow, linear.origin,
                  fmt::format("bias of channel {} is {:.3g} accumulator steps, 2^24 is the limit",
                              c, rounded),
                  "its weights are too small for it; use fewer weight levels");
    q.push_back(static_cast<std::int32_t>(rounded));
  }
  return q;
}

/// What the requant behind adds to the accumulator, in its steps: the constant term where the node
/// does not apply it itself, and the zero point of the result. One for each channel, one for all,
/// or none.
std::vector<double> added_steps(const DeferredLinear& linear, const QuantizedWeights& weights,
                                const QuantParams& out) {
  const std::vector<double> scale = accumulator_scale(linear, weights);
  std::vector<double> steps;
  if (linear.bias_in_requant) steps = offset_steps(linear, weights, scale);
  if (out.zero_point == 0) return steps;
  if (steps.empty()) steps.assign(scale.size(), 0.0);
  for (std::size_t c = 0; c < steps.size(); ++c)
    steps[c] += static_cast<double>(out.zero_point) * out.scale / scale_of(scale, c);
  return steps;
}

/// What the accumulator can reach with these weights, bias included where the node applies it.
std::vector<Interval> reachable(const DeferredLinear& linear, const QuantizedWeights& weights,
                                const TensorType& x_type, const Bounds& x) {
  Graph g;
  const ValueId in = g.add_input("x", x_type);
  BoundsAnalysis bounds(g);
  bounds.assume(in, x);
  const ValueId acc = g.emit(linear.op, "acc", {in, g.add_constant("w", weights.q)}, linear.attrs);
  const std::vector<std::int32_t> bias =
      integer_bias(linear, weights, accumulator_scale(linear, weights));
  std::vector<Interval> out;
  for (std::size_t c = 0; c < linear.channels(); ++c) {
    Interval i = bounds.of(acc).of(c);
    if (!bias.empty()) i = {i.lo + bias[c], i.hi + bias[c]};
    out.push_back(i);
  }
  return out;
}

Interval hull(const std::vector<Interval>& all) {
  Interval h = all.front();
  for (const Interval& i : all) h = {std::min(h.lo, i.lo), std::max(h.hi, i.hi)};
  return h;
}

}  // namespace

/// Appends the node with these weights. A Conv leaves its bias to the requant's add, and so does a
/// Gemm where the target asks for it; else Gemm takes it as its int32 input and MatMul as an Add
/// behind it (deeploy-dialect.md 1.4, 13.5).
void Lowering::emit_linear(DeferredLinear& linear, const QuantizedWeights& weights) {
  const ValueId w = out_.add_constant(linear.name + "_weight", weights.q);
  weight_origins_.push_back({out_.value(w).name, linear.weights_name, linear.weights, weights.scale,
                             weights.scale.size() > 1 ? weights.axis : -1, weights.n_levels});
  linear.scale = accumulator_scale(linear, weights);
  const std::string acc_name = linear.name + "_acc";
  std::vector<ValueId> inputs{linear.x, w};
  std::vector<std::int32_t> q = integer_bias(linear, weights, linear.scale);
  const bool has_bias = std::ranges::any_of(q, [](std::int32_t b) { return b != 0; });
  if (linear.op == "Gemm") {
    if (q.empty()) q.assign(linear.channels(), 0);
    inputs.push_back(
        out_.add_constant(linear.name + "_bias",
                          Tensor::from<std::int32_t>({static_cast<std::int64_t>(q.size())}, q)));
  }
  linear.accumulator = emit(linear.op, acc_name, inputs, linear.attrs, linear.origin);
  if (linear.op == "MatMul" && has_bias) {
    const ValueId b =
        out_.add_constant(linear.name + "_bias",
                          Tensor::from<std::int32_t>({static_cast<std::int64_t>(q.size())}, q));
    linear.accumulator =
        emit("Add", linear.name + "_biased", {linear.accumulator, b}, {}, linear.origin);
  }
  if (!linear.bias_in_requant) return;
  linear.offset = offset_steps(linear, weights, linear.scale);
  for (std::size_t c = 0; c < linear.offset.size(); ++c)
    linear.offset[c] *= scale_of(linear.scale, c);
}

/// Weights with the scales their magnitudes ask for. A channel of nothing but zeros asks for none:
/// it takes the largest of the others', which neither limits the requant nor rounds its bias more
/// than theirs.
QuantizedWeights Lowering::natural_weights(const DeferredLinear& linear) const {
  const std::int64_t axis = options_.per_channel_weights ? linear.channel_axis : -1;
  QuantizedWeights w =
      quantize_weights(linear.weights, axis, linear.weight_levels, {}, linear.origin);
  if (w.scale.size() == 1) return w;
  const std::vector<std::int64_t> q = to_int64(w.q);
  const std::size_t each =
      q.size() / w.scale.size();  // channels lead wherever there is one scale for each
  std::vector<std::size_t> empty;
  double largest = 0;
  for (std::size_t c = 0; c < w.scale.size(); ++c) {
    if (std::all_of(q.begin() + static_cast<std::ptrdiff_t>(c * each),
                    q.begin() + static_cast<std::ptrdiff_t>((c + 1) * each),
                    [](std::int64_t v) { return v == 0; }))
      empty.push_back(c);
    else
      largest = std::max(largest, w.scale[c]);
  }
  if (largest > 0)
    for (std::size_t c : empty) w.scale[c] = largest;
  return w;
}

/// The weights' own integers where all channels lie on grids
/// (IntegerizeOptions::keep_weight_grids).
std::optional<QuantizedWeights> Lowering::grid_weights(const DeferredLinear& linear) const {
  if (!options_.keep_weight_grids) return std::nullopt;
  const QuantizedWeights natural = natural_weights(linear);
  std::vector<double> scale = natural.scale;
  const auto values = linear.weights.as<float>();
  const std::size_t each = values.size() / scale.size();
  for (std::size_t c = 0; c < scale.size(); ++c) {
    const auto channel = values.subspan(c * each, each);
    if (std::ranges::all_of(channel, [](float v) { return v == 0; })) continue;
    const auto grid = grid_of(channel, linear.weight_levels);
    if (!grid) return std::nullopt;
    scale[c] = *grid;
  }
  return weights_on_grids(linear.weights, natural.axis, linear.weight_levels, scale, linear.origin);
}

QuantizedWeights Lowering::plain_weights(const DeferredLinear& linear) const {
  const std::optional<QuantizedWeights> own = grid_weights(linear);
  return own ? *own : natural_weights(linear);
}

void Lowering::emit_plain(DeferredLinear& linear) { emit_linear(linear, plain_weights(linear)); }

namespace {

/// Least multiplier of a channel whose bias is `bias_steps_out` output steps: add = q*mul with |q|
/// < limit*|mul| and q = bias/ratio leaves mul^2 > bias*2^shift/limit. A channel of tiny weights
/// and a large bias needs it.
double least_mul(double bias_steps_out, int shift, const RequantLimits& limits) {
  const double squared = std::abs(bias_steps_out) * std::ldexp(1.0, shift) /
                         static_cast<double>(limits.max_add_per_mul);
  return std::max(1.0, std::ceil(1.01 * std::sqrt(squared)));
}

}  // namespace

/// Parameters of the requant from an accumulator of these weights to the codes `out`, bias and zero
/// point included.
std::optional<RequantChoice> Lowering::requant_for(const DeferredLinear& linear,
                                                   const QuantizedWeights& weights,
                                                   const QuantParams& out,
                                                   const RequantLimits& limits, std::string* why) {
  const std::vector<double> scale = accumulator_scale(linear, weights);
  const std::vector<double> added = added_steps(linear, weights, out);
  std::vector<Interval> acc =
      reachable(linear, weights, out_.value(linear.x).type, bounds_.of(linear.x));
  const std::size_t sets = std::max(scale.size(), added.size());
  if (sets == 1) acc = {hull(acc)};
  std::vector<double> ratio;
  for (std::size_t c = 0; c < sets; ++c) ratio.push_back(scale_of(scale, c) / out.scale);
  return choose_requant(ratio, added, acc, limits, why);
}

namespace {

/// Whether small multipliers, or the bound of a bias, made a channel's weights noticeably coarser.
bool is_stretched(const QuantizedWeights& weights, const QuantizedWeights& natural) {
  for (std::size_t c = 0; c < natural.scale.size(); ++c)
    if (weights.scale[c] > natural.scale[c] * (1.0 + 1.0 / RequantLimits::kFineMul)) return true;
  return false;
}

}  // namespace

/// Weights and requant together. With natural weight scales the multipliers ratio*2^shift would
/// have to be rounded, each channel by another factor; instead each multiplier is rounded up and
/// the channel's weight scale is stretched to the value that makes it exact. The largest weight
/// then uses somewhat fewer levels; the requant applies precisely the scale that is carried on. The
/// largest shift that is provably safe wins.
Activation Lowering::requant_linear(DeferredLinear& linear, const QuantParams& wanted,
                                    const std::string& name) {
  QuantizedWeights natural = natural_weights(linear);
  std::string why;
  std::optional<FittedLinear> fit;
  if (const auto own = options_.exact_multipliers ? grid_weights(linear) : natural)
    if (auto choice = requant_for(linear, *own, wanted, options_.requant, &why))
      fit = {*own, std::move(*choice)};
  if (!fit) {
    // Weights that are all zero have any scale: a fine one, for the sake of the bias.
    if (std::ranges::all_of(to_int64(natural.q), [](std::int64_t v) { return v == 0; }))
      for (double& s : natural.scale) s = std::ldexp(1.0, -8) * wanted.scale / linear.x_scale;
    RequantLimits limits = options_.requant;
    limits.wide_products = false;
    fit = fit_linear(linear, natural, wanted, limits, why);
    if (options_.requant.wide_products && (!fit || is_stretched(fit->weights, natural)))
      if (auto wide = fit_linear(linear, natural, wanted, limits.widened(), why))
        fit = std::move(wide);
  }
  if (!fit && wanted.zero_point != 0)
    return requant_linear(linear, without_zero_point(wanted), name);
  if (!fit)
    throw Error(ErrorCode::overflow, fmt::format("{} '{}'", linear.op, linear.origin),
                "no requant parameters are provably safe: " + why,
                "use fewer levels, or a wider calibration range");
  emit_linear(linear, fit->weights);
  linear.shift = fit->requant.shift;
  linear.out_scale = wanted.scale;
  return emit_requant(linear.accumulator, fit->requant, wanted, name);
}

/// requant_linear with products of one width: the largest shift that is safe.
std::optional<Lowering::FittedLinear> Lowering::fit_linear(const DeferredLinear& linear,
                                                           const QuantizedWeights& natural,
                                                           const QuantParams& out,
                                                           RequantLimits limits, std::string& why) {
  const std::int64_t axis = options_.per_channel_weights ? linear.channel_axis : -1;
  const double unit = linear.x_scale / out.scale;
  // Of the requant's output steps; which channel scale they are rounded at matters little here.
  const std::vector<double> scale = accumulator_scale(linear, natural);
  std::vector<double> offset = added_steps(linear, natural, out);
  for (std::size_t k = 0; k < offset.size(); ++k) offset[k] *= scale_of(scale, k) / out.scale;
  const int least = limits.min_shift;
  for (int shift = limits.max_shift; shift >= least; --shift) {
    std::vector<double> weight_scale = natural.scale;
    for (std::size_t c = 0; c < weight_scale.size(); ++c) {
      double mul = std::ceil(natural.scale[c] * unit * std::ldexp(1.0, shift) - 1e-6);
      for (std::size_t k = 0; k < offset.size(); ++k)
        if (weight_scale.size() == 1 || k == c)
          mul = std::max(mul, least_mul(offset[k], shift, limits));
      weight_scale[c] = std::ldexp(std::max(1.0, mul), -shift) / unit;
    }
    QuantizedWeights weights =
        quantize_weights(linear.weights, axis, linear.weight_levels, weight_scale, linear.origin);
    limits.min_shift = limits.max_shift = shift;
    if (auto choice = requant_for(linear, weights, out, limits, &why))
      return FittedLinear{std::move(weights), std::move(*choice)};
  }
  return std::nullopt;
}

/// A second requant of an accumulator whose weights are fixed. Its multipliers stay exact where the
/// new output scale is the first one times a power of two: up to 5 % of clipped range or 25 % of
/// coarser step cost less than unequal channel gains. Where the range lies between, the wanted
/// scale comes first and the next power of two is the way out.
Activation Lowering::requant_again(const DeferredLinear& linear, const QuantParams& wanted,
                                   bool scale_is_fixed, const std::string& name) {
  std::vector<double> scales{wanted.scale};
  if (!scale_is_fixed) {
    const double octaves = std::log2(wanted.scale / linear.out_scale);
    const double nearest = std::ldexp(linear.out_scale, static_cast<int>(std::round(octaves)));
    const bool close = nearest >= 0.95 * wanted.scale && nearest <= 1.25 * wanted.scale;
    scales.insert(close ? scales.begin() : scales.end(), nearest);
    scales.push_back(std::ldexp(linear.out_scale, static_cast<int>(std::ceil(octaves))));
  }
  std::string why;
  for (double scale : scales) {
    QuantParams quant = wanted;
    quant.scale = scale;
    if (const auto a =
            try_requant_vector(linear.accumulator, linear.scale, linear.offset, quant, name, why))
      return *a;
  }
  if (const auto a = requant_centred(linear.accumulator, linear.scale, linear.offset, wanted, name))
    return *a;
  throw Error(ErrorCode::overflow, fmt::format("{} '{}'", linear.op, linear.origin),
              "no parameters of its second requant are provably safe: " + why,
              "use fewer levels, or a wider calibration range");
}

}  // namespace waveq
