// Softmax and the normalizations along the last axis.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "lowering/rules.h"
#include "waveq/integerize/approximation.h"

namespace waveq {

namespace {

/// Refuses the node, by the name it has in the user's model, where the target lacks the kernel. A
/// target without any named operators runs all.
void require_kernel(Lowering& to, std::string_view op) {
  if (!to.options().target.operators.empty() && !to.target_runs(op))
    to.refuse(fmt::format("it becomes {}, which {} does not run", op, to.options().target.name));
}

/// Standard deviation of a row in steps of its 8-bit grid where nothing else is known: the grid's
/// 127 steps hold about four of them.
constexpr double kUsualDeviation = 32.0;

void require_last_axis(Lowering& to, const Node& node) {
  const Shape& shape = to.shape(node.inputs[0]);
  const std::int64_t axis = normalize_axis(node.attrs.get_int("axis", -1), shape.size(), node.name);
  if (axis + 1 != static_cast<std::int64_t>(shape.size()) ||
      node.attrs.get_int("waveq_flatten", 0) != 0)
    to.refuse("it does not work along the last axis; run the rewrites first");
}

void define_row_result(Lowering& to, ValueId y, const std::string& op, std::vector<ValueId> inputs,
                       Attrs attrs, double scale, bool is_signed) {
  QuantParams quant;
  quant.scale = scale;
  quant.is_signed = is_signed;
  const ValueId id = to.emit(op, to.name_for(y), std::move(inputs), std::move(attrs));
  to.out().set_quant(id, quant);
  to.define(y, Activation{id, quant});
}

std::vector<double> row_parameter(Lowering& to, const Node& node, std::size_t i, std::size_t length,
                                  double absent) {
  if (node.inputs.size() <= i || !node.inputs[i].valid())
    return std::vector<double>(length, absent);
  if (!to.is_constant(node.inputs[i])) to.refuse("its gain and bias are not constants");
  std::vector<double> values = to_double(to.source().constant(node.inputs[i]));
  if (values.size() == 1) values.resize(length, values.front());
  if (values.size() != length)
    to.refuse("it normalizes more than the last axis, which the target's kernel does not");
  return values;
}

ValueId int32_constant(Lowering& to, const std::string& name,
                       const std::vector<std::int32_t>& values) {
  return to.out().add_constant(
      name, Tensor::from<std::int32_t>({static_cast<std::int64_t>(values.size())}, values));
}

/// Exponentials of the distances from the row's maximum, in steps of 1/65535, and their sums.
struct Exponentials {
  Activation distance;   ///< maximum - x, unsigned, in steps of x's 8 bits
  ValueId values, sums;  ///< uint16 in the shape of x; int32, the last axis 1
};

Exponentials exponentials(Lowering& to, const Node& node) {
  const ValueId x = node.inputs[0], y = node.outputs.front();
  const Shape shape = to.shape(x);
  const std::int64_t length = shape.back(),
                     rows = element_count(shape) / std::max<std::int64_t>(length, 1);
  if (length > kSoftmaxLongest)
    to.refuse(fmt::format("rows of {} do not sum up in int32; {} do", length, kSoftmaxLongest));
  const Activation a = to.signed_activation(x);
  Attrs last;
  last.set("axes", std::vector<std::int64_t>{static_cast<std::int64_t>(shape.size()) - 1});
  last.set("keepdims", std::int64_t{1});
  const ValueId most = to.emit("ReduceMax", to.name_for(y, "_max"), {a.id}, last);
  to.out().set_quant(most, a.quant);
  QuantParams distance = a.quant, exponential;
  distance.is_signed = exponential.is_signed = false;
  distance.n_levels = 256;
  const Activation d = to.requant_free(to.emit("Sub", to.name_for(y, "_difference"), {most, a.id}),
                                       a.quant.scale, distance, to.name_for(y, "_distance"));
  exponential.scale = 1.0 / 65535;
  exponential.n_levels = 65536;
  Attrs attrs;
  attrs.set("first", std::int64_t{0});
  attrs.set("n_levels_out", exponential.n_levels);
  attrs.set("signed", std::int64_t{0});
  const Tensor table = cast(Tensor::from<std::int32_t>({256}, exponential_table(a.quant.scale)),
                            exponential.storage());
  const ValueId e = to.emit("Table", to.name_for(y, "_exp"),
                            {d.id, to.out().add_constant(to.name_for(y, "_table"), table)}, attrs);
  to.out().set_quant(e, exponential);
  const ValueId flat =
      to.emit("Reshape", to.name_for(y, "_rows"),
              {e, to.constant_i64(to.name_for(y, "_rows_shape"), {1, rows, length})});
  const ValueId ones = to.out().add_constant(
      to.name_for(y, "_ones"),
      Tensor::from<std::int8_t>({1, length, 1},
                                std::vector<std::int8_t>(static_cast<std::size_t>(length), 1)));
  Shape sums = shape;
  sums.back() = 1;
  const ValueId sum = to.emit("Reshape", to.name_for(y, "_sum"),
                              {to.emit("MatMul", to.name_for(y, "_sums"), {flat, ones}),
                               to.constant_i64(to.name_for(y, "_sum_shape"), sums)});
  return {d, e, sum};
}

bool runs_exponentials(const Lowering& to) {
  return to.target_runs("Table") && to.target_runs("ReduceMax") && to.options().target.broadcast;
}

/// Where all probabilities are small, as over long rows, the quotient comes in finer steps: 2^k
/// times Delta and eps, which leaves its bound. Steps of y are a power of two of these: one
/// rounding.
struct Shares {
  IntegerDiv quotient;
  QuantParams quant;
};
Shares shares_of(const QuantParams& wanted) {
  const double most = wanted.scale * static_cast<double>(wanted.n_levels - 1);
  const int k = std::clamp(static_cast<int>(std::floor(-std::log2(most))), 0, 6);
  Shares s{kSoftmaxQuotient, wanted};
  s.quotient.delta <<= k;
  s.quotient.eps <<= k;
  const auto delta = static_cast<double>(s.quotient.delta);
  const int octaves =
      std::clamp(static_cast<int>(std::ceil(std::log2(wanted.scale * delta) - 1e-9)), 0, 7 + k);
  s.quant.scale = std::ldexp(1.0, octaves) / delta;
  return s;
}

/// Softmax from the distance of each element from the row's maximum: a table of exponentials, their
/// sum as a product with ones, a division; in the levels that y's range asks for. Source:
/// integer-approximations.md 6.2, "LUT softmax".
void softmax_by_table(Lowering& to, const Node& node) {
  const ValueId y = node.outputs.front();
  if (!runs_exponentials(to))
    to.refuse(
        fmt::format("softmax = \"lut\" takes a lookup table and a row's maximum, which {} does "
                    "not run; \"ibert\" takes neither",
                    to.options().target.name));
  const Exponentials e = exponentials(to, node);
  const Shares shares = shares_of(to.wanted(y, Signedness::unsigned_));
  Attrs division;
  division.set("Delta", std::int64_t{shares.quotient.delta});
  division.set("eps", std::int64_t{shares.quotient.eps});
  division.set("eta", std::int64_t{shares.quotient.eta});
  to.define(y, to.requant_free(
                   to.emit("IntegerDiv", to.name_for(y, "_quotient"), {e.values, e.sums}, division),
                   1.0 / shares.quotient.delta, shares.quant, to.name_for(y)));
}

}  // namespace

/// log(softmax(x)) = -(d + log(sum exp(-d))), d the distance from the row's maximum. The sum, in
/// 1..N, goes in 255 steps into a table of the logarithm in steps of x.
void lower_log_softmax(Lowering& to, const Node& node) {
  require_last_axis(to, node);
  if (!runs_exponentials(to))
    to.refuse(
        fmt::format("it takes a lookup table and a row's maximum, which {} does not run; it "
                    "keeps the order of its input: a network may end in front of it",
                    to.options().target.name));
  const ValueId y = node.outputs.front();
  const Exponentials e = exponentials(to, node);
  const auto length = static_cast<double>(to.shape(y).back());
  QuantParams sum;
  sum.is_signed = false;
  sum.scale = length / 255;
  const Activation s = to.requant_free(e.sums, 1.0 / 65535, sum, to.name_for(y, "_sum8"));
  QuantParams logarithm = e.distance.quant;
  logarithm.scale = std::max(e.distance.quant.scale, std::log(length) / 255);
  std::vector<std::int32_t> codes;
  for (int q = 0; q < 256; ++q) {
    const double real = std::max(1.0, q * s.quant.scale);
    codes.push_back(
        static_cast<std::int32_t>(std::min(255.0, std::round(std::log(real) / logarithm.scale))));
  }
  Attrs attrs;
  attrs.set("first", std::int64_t{0});
  attrs.set("n_levels_out", std::int64_t{256});
  attrs.set("signed", std::int64_t{0});
  const Tensor table = cast(Tensor::from<std::int32_t>({256}, codes), logarithm.storage());
  const ValueId log =
      to.emit("Table", to.name_for(y, "_log"),
              {s.id, to.out().add_constant(to.name_for(y, "_log_table"), table)}, attrs);
  to.out().set_quant(log, logarithm);
  const ValueId d = logarithm.scale == e.distance.quant.scale
                        ? e.distance.id
                        : to.requant_free(e.distance.id, e.distance.quant.scale, logarithm,
                                          to.name_for(y, "_distance8"))
                              .id;
  Quantity result;
  result.id = to.emit("Add", to.name_for(y, "_acc"), {d, log});
  result.scale = {-logarithm.scale};
  to.define(y, std::move(result));
}

/// Probabilities in steps of about 1/255, unsigned. iSoftmax takes any scale within its domain;
/// ITAMax one, and what lies more than 5.5 below the row's maximum counts as that.
void lower_softmax(Lowering& to, const Node& node) {
  require_last_axis(to, node);
  const bool by_table = to.options().softmax == "auto" && runs_exponentials(to) &&
                        to.shape(node.inputs[0]).back() <= kSoftmaxLongest;
  if (by_table || to.options().softmax == "lut") return softmax_by_table(to, node);
  const ValueId x = node.inputs[0], y = node.outputs.front();
  Attrs attrs;
  attrs.set("n_levels", std::int64_t{256});
  require_kernel(to, to.options().softmax == "itamax" ? "ITAMax" : "iSoftmax");
  if (to.options().softmax == "itamax") {
    const double finest = to.signed_scale(x);
    if (finest > 1.001 * kItaMaxScale)
      spdlog::warn("{}: ITAMax takes steps of {:.4f}; values beyond {:.2f} saturate", node.name,
                   kItaMaxScale, 127 * kItaMaxScale);
    const Activation a = to.signed_activation_at(x, kItaMaxScale);
    return define_row_result(to, y, "ITAMax", {a.id}, attrs, 1.0 / 255, false);
  }
  const double wanted = to.signed_scale(x);
  if (wanted > kSoftmaxCoarsest && runs_exponentials(to)) {
    spdlog::warn(
        "{}: iSoftmax takes steps of at most {}, its input needs {:.3g}; a table takes its "
        "place",
        node.name, kSoftmaxCoarsest, wanted);
    return softmax_by_table(to, node);
  }
  if (to.finest_scale(x) > kSoftmaxCoarsest)
    throw Error(
        ErrorCode::not_integer,
        fmt::format("Softmax '{}'", node.origin.empty() ? node.name : node.origin),
        fmt::format("its input comes in steps of {:.3g}, as large as what is in front of it "
                    "computes with, and iSoftmax takes steps of at most {}",
                    to.finest_scale(x), kSoftmaxCoarsest),
        "it keeps the order of its input: a network may end in front of it");
  if (wanted > kSoftmaxCoarsest)
    spdlog::warn("{}: iSoftmax takes steps of at most {}; values beyond {:.1f} saturate", node.name,
                 kSoftmaxCoarsest, 127 * kSoftmaxCoarsest);
  const double scale = std::clamp(wanted, kSoftmaxFinest, kSoftmaxCoarsest);
  const Activation a =
      scale < wanted ? to.signed_activation_at(x, scale) : to.signed_activation(x, kSoftmaxFinest);
  const ISoftmax p = to.options().softmax == "quantlib" ? quantlib_isoftmax(a.quant.scale)
                                                        : search_isoftmax(a.quant.scale);
  attrs.set("coeffA", std::int64_t{p.coeff_a});
  attrs.set("coeffB", std::int64_t{p.coeff_b});
  attrs.set("coeffC", p.coeff_c);
  attrs.set("log2", std::int64_t{p.log2});
  QuantParams steps;
  steps.scale = 1.0 / 255;
  steps.is_signed = false;
  const bool fitted = to.options().softmax != "quantlib";
  const double share = fitted ? isoftmax_scale(to.code_counts(y, steps)) : steps.scale;
  define_row_result(to, y, "iSoftmax", {a.id}, attrs, share, false);
}

/// iLayerNorm(x, gain, bias): the kernel's variance is sum(t^2)/N + 1 in squared steps of x, which
/// stands for the model's epsilon. No row may make the kernel's int8 wrap, so its scale has room
/// for a row of a single peak, sqrt(N) deviations high; where the target has the form that makes
/// int32, a requant to the range that occurs comes behind.
void lower_layer_norm(Lowering& to, const Node& node) {
  require_kernel(to, "iLayerNorm");
  require_last_axis(to, node);
  const ValueId x = node.inputs[0], y = node.outputs.front();
  const auto length = static_cast<std::size_t>(to.shape(x).back());
  const std::vector<double> gain = row_parameter(to, node, 1, length, 1.0),
                            bias = row_parameter(to, node, 2, length, 0.0);
  for (std::size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i].valid() && to.source().use_count(node.outputs[i]) > 0)
      to.refuse("its mean and deviation are used, which the target's kernel does not give");
  const bool wide = to.width("iLayerNorm") == Width::bits16;
  const Activation a = to.activation(x, to.width("iLayerNorm"));
  // In squared steps of x; the 8-bit kernel has 1 of them.
  const double epsilon = node.attrs.get_float("epsilon", 1e-5),
               steps = epsilon / (a.quant.scale * a.quant.scale);
  if (!wide && steps > 4)
    spdlog::warn("{}: its epsilon {:.3g} is above a squared step of its input ({:.3g})", node.name,
                 epsilon, a.quant.scale * a.quant.scale);
  const auto added = static_cast<std::int64_t>(
      std::clamp(std::round(steps), 1.0, static_cast<double>(kLayerNormLargestEpsilon)));
  const QuantSpec levels{to.options().activation_levels, Signedness::signed_};
  const double wanted = choose_params(to.range(y, levels), levels).scale;
  const Interval reach = to.bounds().of(a.id).hull();
  const double usual = kUsualDeviation * static_cast<double>(a.quant.n_levels) / 256,
               deviation = std::sqrt(usual * usual + static_cast<double>(added));
  const LayerNormParameters p =
      wide ? choose_layer_norm(gain, bias, reach.lo, reach.hi, 0, deviation, 32767, added)
           : choose_layer_norm(gain, bias, reach.lo, reach.hi, wanted, kUsualDeviation);
  Attrs attrs;
  attrs.set("D", std::int64_t{1} << p.log2_d);
  attrs.set("n_levels", std::int64_t{wide ? 65536 : 256});
  if (wide) attrs.set("epsilon", added);
  if (wide) attrs.set("output_bits", std::int64_t{32});
  std::vector<ValueId> inputs{a.id, int32_constant(to, to.name_for(y, "_weight"), p.weight),
                              int32_constant(to, to.name_for(y, "_bias"), p.bias)};
  if (!wide) return define_row_result(to, y, "iLayerNorm", std::move(inputs), attrs, p.scale, true);
  Quantity result;
  result.id = to.emit("iLayerNorm", to.name_for(y, "_acc"), std::move(inputs), attrs);
  result.scale = {p.scale};
  to.define(y, std::move(result));
}

/// iRMSNorm(x, gain). The kernel rounds down: the result stands for half a step less than the
/// model's, which shape_for_target took into account; it chose the step, too.
void lower_rms_norm(Lowering& to, const Node& node) {
  require_kernel(to, "iRMSNorm");
  if (!to.target_runs("iRMSNorm"))
    to.refuse("its gain is not one constant for each element of the last axis");
  require_last_axis(to, node);
  const ValueId x = node.inputs[0], y = node.outputs.front();
  const auto length = static_cast<std::size_t>(to.shape(x).back());
  const std::int64_t multiple = to.options().target.form.norm_row_multiple;
  if (to.shape(x).back() % multiple != 0)
    to.refuse(
        fmt::format("it becomes iRMSNorm of {} elements, which is right on {} for multiples "
                    "of {} alone",
                    length, to.options().target.name, multiple));
  const Activation a = to.signed_activation(x);
  const RmsNormParameters p =
      choose_rms_norm(row_parameter(to, node, 1, length, 1.0),
                      node.attrs.get_float("waveq_scale", 0.0), kUsualDeviation);
  Attrs attrs;
  attrs.set("D", std::int64_t{1} << p.log2_d);
  attrs.set("n_levels", std::int64_t{256});
  define_row_result(to, y, "iRMSNorm",
                    {a.id, int32_constant(to, to.name_for(y, "_weight"), p.weight)}, attrs, p.scale,
                    true);
}

}  // namespace waveq
