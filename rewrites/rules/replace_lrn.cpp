// LRN(x)  =>  x * Pow(Conv(x*x, W) + bias, -beta)        W a band of alpha/size over the channels

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

Rule replace_lrn() {
  const Pat x = any();
  return {.name = "replace_lrn",
          .formula = "LRN(x) = x*(bias + sum of x^2*alpha/size)^-beta",
          .effect = Effect::reassociates,
          .source = "ONNX LRN-1, 13",
          .stage = Stage::fuse,
          .root = op("LRN", {x}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Shape shape = m.shape(x);
            const std::int64_t channels = shape.at(1), size = m.root().attrs.require_int("size");
            if (shape.size() < 3 || shape.size() > 4)
              return declined("no convolution runs over {}", to_string(shape));
            const double weight =
                m.root().attrs.get_float("alpha", 1e-4) / static_cast<double>(size);
            std::vector<double> band;
            for (std::int64_t c = 0; c < channels; ++c)
              for (std::int64_t k = 0; k < channels; ++k)
                band.push_back(k >= c - (size - 1) / 2 && k <= c + size / 2 ? weight : 0.0);
            Shape kernel{channels, channels};
            kernel.resize(shape.size(), 1);
            Attrs attrs;
            attrs.set("kernel_shape", std::vector<std::int64_t>(shape.size() - 2, 1));
            const double bias = m.root().attrs.get_float("bias", 1.0);
            const ValueId sums = patch.node(
                "Conv",
                {patch.node("Mul", {m[x], m[x]}), patch.constant(float_tensor(kernel, band)),
                 patch.constant(float_tensor(
                     {channels}, std::vector<double>(static_cast<std::size_t>(channels), bias)))},
                attrs);
            const auto exponent = static_cast<float>(-m.root().attrs.get_float("beta", 0.75));
            return patch.node(
                "Mul", {m[x], patch.node("Pow", {sums, patch.constant(Tensor::scalar(exponent))})});
          }};
}

}  // namespace waveq::rules
