#include <doctest/doctest.h>

#include <random>

#include "onnx_builder.h"
#include "waveq/graph/op.h"

// Deterministic fuzzing of the reader and of type inference behind it: models that are valid
// protobuf but whose fields make little sense. Anything but a graph or an Error with a code that
// blames the file fails.
namespace waveq {
namespace {

using namespace test;
using onnx::TensorProto;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }
  /// Mostly small numbers, now and then one at the edge of a type.
  std::int64_t number() {
    if (one_in(6))
      return pick<std::int64_t>(
          {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX, std::int64_t{1} << 40, -1000000007, 65536});
    return static_cast<std::int64_t>(below(9)) - 3;
  }

 private:
  std::mt19937_64 engine_;
};

void add_random_attribute(onnx::NodeProto& n, std::string_view name, Random& random) {
  auto& a = *n.add_attribute();
  a.set_name(std::string(name));
  switch (random.below(6)) {
    case 0:
      a.set_type(onnx::AttributeProto::FLOAT);
      a.set_f(random.pick({0.0f, -1.0f, 0.5f, 1e30f, std::numeric_limits<float>::quiet_NaN()}));
      break;
    case 1:
      a.set_type(onnx::AttributeProto::STRING);
      a.set_s(
          random.pick<const char*>({"", "SAME_UPPER", "linear", "reflect", "forward", "nonsense"}));
      break;
    case 2: {
      a.set_type(onnx::AttributeProto::TENSOR);
      std::vector<std::int64_t> values(random.below(3));
      for (auto& v : values) v = random.number();
      fill_raw(*a.mutable_t(), TensorProto::INT64, {static_cast<std::int64_t>(values.size())},
               values);
      break;
    }
    case 3:
      a.set_type(onnx::AttributeProto::INT);
      a.set_i(random.number());
      break;
    default:
      a.set_type(onnx::AttributeProto::INTS);
      for (std::size_t i = 0, count = random.below(5); i < count; ++i) a.add_ints(random.number());
  }
}

/// A float or integer tensor of random small shape; contents are small integers, some extreme.
void add_random_constant(onnx::ModelProto& m, const std::string& name, Random& random) {
  TensorProto& t = *m.mutable_graph()->add_initializer();
  t.set_name(name);
  std::int64_t count = 1;
  for (std::size_t i = 0, rank = random.below(5); i < rank; ++i) {
    t.add_dims(static_cast<std::int64_t>(random.below(4)) + (random.one_in(8) ? 0 : 1));
    count *= t.dims(t.dims_size() - 1);
  }
  t.set_data_type(random.pick<int>(
      {TensorProto::FLOAT, TensorProto::INT64, TensorProto::INT32, TensorProto::INT8}));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t v = random.number();
    if (t.data_type() == TensorProto::FLOAT)
      t.add_float_data(static_cast<float>(v));
    else if (t.data_type() == TensorProto::INT64)
      t.add_int64_data(v);
    else
      t.add_int32_data(
          static_cast<std::int32_t>(t.data_type() == TensorProto::INT8 ? v % 128 : v % INT32_MAX));
  }
}

/// One node of the operator with random inputs, attributes and outputs.
onnx::ModelProto random_node(const OpDef& op, Random& random) {
  onnx::ModelProto m = model(random.pick<std::int64_t>({7, 9, 11, 13, 18, 21}));
  auto& n = node(m, op.name, {}, {}, "n");
  for (std::size_t i = 0, count = random.below(op.inputs.size() + 2); i < count; ++i) {
    const std::string name = "i" + std::to_string(i);
    if (random.one_in(10)) {
      n.add_input("");
      continue;
    }
    n.add_input(name);
    if (random.one_in(3)) {
      auto& info = *m.mutable_graph()->add_input();
      describe(info, name, {},
               random.pick<int>(
                   {TensorProto::FLOAT, TensorProto::INT64, TensorProto::INT8, TensorProto::BOOL}));
      for (std::size_t d = 0, rank = random.below(5); d < rank; ++d)
        info.mutable_type()->mutable_tensor_type()->mutable_shape()->add_dim()->set_dim_value(
            random.one_in(30) ? std::int64_t{1} << 30 : static_cast<std::int64_t>(random.below(6)));
    } else {
      add_random_constant(m, name, random);
    }
  }
  for (const std::string& name : op.attrs)
    if (!name.starts_with("waveq_") && random.one_in(2)) add_random_attribute(n, name, random);
  for (std::size_t i = 0, count = 1 + random.below(3); i < count; ++i) {
    n.add_output("o" + std::to_string(i));
    m.mutable_graph()->add_output()->set_name(n.output(static_cast<int>(i)));
  }
  return m;
}

/// Changes one field of a model to something else of its kind.
void disturb(onnx::ModelProto& m, Random& random) {
  auto& graph = *m.mutable_graph();
  auto& n = *graph.mutable_node(
      static_cast<int>(random.below(static_cast<std::size_t>(graph.node_size()))));
  auto& t = *graph.mutable_initializer(
      static_cast<int>(random.below(static_cast<std::size_t>(graph.initializer_size()))));
  switch (random.below(8)) {
    case 0:
      n.set_op_type(all_ops()[random.below(all_ops().size())]->name);
      break;
    case 1:
      n.set_input(
          static_cast<int>(random.below(static_cast<std::size_t>(n.input_size()))),
          std::string(random.pick<const char*>({"x", "w", "c", "p", "shape", "", "nowhere"})));
      break;
    case 2:
      n.add_input(random.pick<const char*>({"x", "b", "y", "shape"}));
      break;
    case 3:
      if (n.attribute_size() == 0) break;
      n.mutable_attribute(0)->set_i(random.number());
      if (n.attribute(0).ints_size() > 0) n.mutable_attribute(0)->set_ints(0, random.number());
      break;
    case 4:
      t.set_dims(static_cast<int>(random.below(static_cast<std::size_t>(t.dims_size()))),
                 random.number());
      break;
    case 5:
      t.set_data_type(static_cast<std::int32_t>(random.below(24)));
      break;
    case 6:
      graph.mutable_input(0)
          ->mutable_type()
          ->mutable_tensor_type()
          ->mutable_shape()
          ->mutable_dim(static_cast<int>(random.below(3)))
          ->set_dim_value(random.number());
      break;
    default:
      n.set_output(0, std::string(random.pick<const char*>({"x", "c", "p", "fresh", ""})));
  }
}

int read_quietly(const onnx::ModelProto& m) {
  try {
    read(m).verify();
    return 1;
  } catch (const Error& e) {
    INFO(e.what());
    CHECK(e.code() != ErrorCode::internal);
    return 0;
  }
}

}  // namespace

TEST_CASE("onnx reader: random nodes of every operator are typed or refused") {
  Random random(1);
  int read_well = 0;
  for (const OpDef* op : all_ops())
    for (int round = 0; round < 100; ++round) {
      CAPTURE(op->name);
      CAPTURE(round);
      const onnx::ModelProto m = random_node(*op, random);
      read_well += read_quietly(m);
    }
  CHECK(read_well > 100);
}

TEST_CASE("onnx reader: models with disturbed fields load or are refused") {
  Random random(2);
  int read_well = 0;
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    onnx::ModelProto m = small_model();
    for (std::size_t change = 0, changes = 1 + random.below(2); change < changes; ++change)
      disturb(m, random);
    read_well += read_quietly(m);
  }
  CHECK(read_well > 100);
}

}  // namespace waveq
