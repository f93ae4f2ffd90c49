#include <doctest/doctest.h>

#include <cmath>

#include "net.h"
#include "shared_data.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/onnx_reader.h"

namespace waveq {
namespace {

using test::structure;

struct Model {
  Graph before, after;
  RewriteReport report;
};

std::optional<Model> load(const std::string& file) {
  const auto path = test::shared("models/" + file);
  if (!path) return std::nullopt;
  Model model;
  model.before = read_onnx(*path);
  model.after = model.before;
  RewriteOptions options;
  options.verify_every = 50;
  model.report = rewrite(model.after, options);
  return model;
}

std::size_t count(const Graph& graph, std::string_view op) {
  std::size_t n = 0;
  for (NodeId id : graph.nodes()) n += graph.node(id).op == op;
  return n;
}

TEST_CASE("models: three exports of one Waveformer become one graph") {
  for (const std::string folder : {"waveformer_kws_fsdd", "waveformer_kws_espeak"}) {
    const auto plain = load(folder + "/model.onnx");
    const auto dynamic = load(folder + "/model_dynamic_batch.onnx");
    const auto normed = load(folder + "/model_bn_opset17.onnx");
    if (!plain || !dynamic || !normed) return;
    CHECK(structure(plain->after) == structure(dynamic->after));
    CHECK(structure(plain->after) == structure(normed->after));
    CHECK(count(plain->after, "Gelu") == 9);
    CHECK(count(normed->after, "BatchNormalization") == 0);
    CHECK(plain->after.outputs().size() == 1);
    CHECK(plain->after.value(plain->after.outputs()[0]).name == "logits");
  }
}

TEST_CASE("models: every network computes the same before and after") {
  for (const std::string file :
       {"waveformer_kws_fsdd/model.onnx", "waveformer_kws_fsdd/model_dynamic_batch.onnx",
        "waveformer_kws_fsdd/model_bn_opset17.onnx", "waveformer_elu1_fsdd/model.onnx",
        "waveformer_favor_fsdd/model.onnx", "transformer_fsdd/model.onnx", "dscnn_fsdd/model.onnx",
        "tinyspeech_fsdd/model_z.onnx", "tinyspeech_fsdd/model_x_bn_opset17.onnx",
        "enhance_rnn_fsdd/model_gru.onnx"}) {
    CAPTURE(file);
    const auto model = load(file);
    if (!model) return;
    const auto inputs = test::random_inputs(model->before, 1);
    const std::vector<double> a = to_double(Executor(model->before).run(inputs)[0]);
    const std::vector<double> b = to_double(Executor(model->after).run(inputs)[0]);
    double signal = 0.0, noise = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      signal += a[i] * a[i];
      noise += (a[i] - b[i]) * (a[i] - b[i]);
    }
    // 80 dB: a hundredfold more than float rounding along such a network, a hundredfold less than a
    // wrong rule.
    CHECK(noise <= 1e-8 * signal);
  }
}

TEST_CASE("models: the rewritten network is a fixpoint") {
  auto model = load("transformer_fsdd/model.onnx");
  if (!model) return;
  CHECK(count(model->after, "LayerNormalization") == 9);
  CHECK(count(model->after, "Erf") == 0);
  CHECK(rewrite(model->after).applied.empty());
}

TEST_CASE("models: pooling over the map with an empty Pad is one ReduceMean") {
  const auto model = load("dscnn_fsdd/model.onnx");
  if (!model) return;
  CHECK(count(model->after, "ReduceMean") == 1);
  for (const char* op : {"Pad", "AveragePool", "Flatten", "Reshape"})
    CHECK(count(model->after, op) == 0);
}

}  // namespace
}  // namespace waveq
