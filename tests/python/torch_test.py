"""waveq.torch: the integers of the integer network, gradients that mean something, ranges that are learned."""
import subprocess
import sys
import unittest
import unittest.mock

import numpy as np
import support

try:
    import torch
except ImportError as error:
    print(f"SKIPPED: {error}; these tests need python3-torch")
    sys.exit(77)
import waveq
import waveq.torch
from waveq.torch import functional as Q

torch.set_num_threads(1)


def waveformer(length, classes=5, seed=0):
    sys.path.insert(0, str(support.EXAMPLE))
    import train
    torch.manual_seed(seed)
    model = train.Waveformer(classes)
    with torch.no_grad():  # statistics as after some training
        for _ in range(3):
            model(torch.randn(8, 1, length) * 0.3)
    return model.eval()


class Arithmetic(unittest.TestCase):
    """Forward against wide Python integers, backward against what the real function's slope is."""

    def test_requant_is_exact_at_the_ends_of_int32(self):
        acc = torch.tensor([0, 1, -1, 2**20, -2**20, 999_999], dtype=torch.float64)
        for mul, add, shift in ((1, 0, 0), (1, 0, 1), (2047, -12345, 11), (3, 5, 24), (-7, 1, 3)):
            got = Q.requant(acc, torch.tensor(float(mul)), torch.tensor(float(add)), shift, -128, 127)
            half = (1 << shift) >> 1
            want = [max(-128, min(127, (int(a) * mul + add + half) >> shift)) for a in acc]
            self.assertEqual([int(v) for v in got], want)

    def test_ties_go_where_the_integer_network_sends_them(self):
        half = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994], dtype=torch.float64)
        self.assertEqual(Q.round_half_away(half).tolist(), [-3, -2, -1, 1, 2, 3, 0])
        self.assertEqual(Q.round_half_even(half).tolist(), [-2, -2, 0, 0, 2, 2, 0])
        one = torch.tensor(1.0)
        up = Q.requant(torch.tensor([-5.0, -3, -1, 1, 3, 5], dtype=torch.float64), one, 0 * one, 1, -128, 127)
        self.assertEqual(up.tolist(), [-2, -1, 0, 1, 2, 3])

    def test_division_is_exact_beyond_the_integers_of_float64(self):
        num = torch.tensor([2**31 - 1, -(2**31 - 1), 7, 0], dtype=torch.float64)
        den = torch.tensor([3, 7, 2, 5], dtype=torch.float64)
        for delta, eps, eta in ((1, 0, 1), (2**20, 1, 2), (255, 3, 1000)):
            want = []
            for n, d in zip((int(v) for v in num), (int(v) for v in den)):
                d, n = eta * d + eps, delta * eta * n
                n += (d >> 1) * (-1 if n < 0 else 1)
                want.append(n // d if n >= 0 else -(-n // d))
            self.assertEqual([int(v) for v in Q.integer_div(num, den, delta, eps, eta)], want)

    def test_gradients_pass_where_nothing_is_clipped(self):
        x = torch.tensor([-2000.0, -300, 0, 300, 2000], dtype=torch.float64, requires_grad=True)
        Q.requant(x, torch.tensor(1.0), torch.tensor(0.0), 3, -128, 127).sum().backward()
        self.assertEqual(x.grad.tolist(), [0, 0.125, 0.125, 0.125, 0])

    def test_the_step_gradient_is_that_of_lsq(self):
        # y(s) = s * clamp(round(x / s)): the derivative by log s with rounding taken as the identity.
        acc = 2 * torch.tensor([0.3, 5.7, 300.0, -300.0], dtype=torch.float64)
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        code = Q.requant(acc, torch.tensor(1.0), torch.tensor(0.0), 1, -128, 127, True, step)
        upstream = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
        code.backward(upstream)
        by_hand = [0 - 0.3, 6 - 5.7, 127, -128]
        want = sum(u * e for u, e in zip(upstream.tolist(), by_hand)) / (4 * 127) ** 0.5
        self.assertAlmostEqual(step.grad.item(), want, places=9)

    def test_the_step_gradient_counts_clipped_codes_from_the_zero_point(self):
        acc = torch.tensor([5.7, 300.0, -300.0], dtype=torch.float64)
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        code = Q.requant(acc, torch.tensor(1.0), torch.tensor(0.0), 0, 0, 255, True, step, 20)
        code.sum().backward()
        self.assertAlmostEqual(step.grad.item(), ((5 - 5.7) + (255 - 20) + (0 - 20)) / (3 * 255) ** 0.5, places=9)

    def test_tables_are_looked_up_with_the_slope_of_their_neighbours(self):
        entries = torch.tensor([[0.0, 1, 4, 9], [9, 4, 1, 0]], dtype=torch.float64)
        x = torch.tensor([[[-2.0, -1, 1], [0, -2, 1]]], dtype=torch.float64, requires_grad=True)
        y = Q.table(x, entries, -2)
        self.assertEqual(y.tolist(), [[[0, 1, 9], [1, 9, 0]]])
        y.sum().backward()
        self.assertEqual(x.grad.tolist(), [[[0.5, 2, 2.5], [-2, -2.5, -0.5]]])

    def test_division_gradient_is_the_slope_of_the_quotient(self):
        num = torch.tensor([1000.0], dtype=torch.float64, requires_grad=True)
        den = torch.tensor([40.0], dtype=torch.float64, requires_grad=True)
        Q.integer_div(num, den, 100, 3, 2).backward()
        d = 2 * 40 + 3
        self.assertAlmostEqual(num.grad.item(), 200 / d, places=9)
        self.assertAlmostEqual(den.grad.item(), -200 * 1000 * 2 / d**2, places=6)


class Twin(support.Case):
    def same_everywhere(self, model, inputs):
        """Every tensor of the torch module equals the integer network's, and so do the real outputs."""
        network = model.result.network
        codes = {t.name: waveq.quantize_array(inputs.numpy(), t) for t in network.inputs}
        want = network.run(codes, all_tensors=True, wrap=False)
        with torch.no_grad():
            got = model.graph.codes(inputs, all_tensors=True)
            real = model(inputs)
        self.assertGreater(len(want), 3)
        for name, expected in want.items():
            np.testing.assert_array_equal(got[name].numpy(), expected.astype(np.float64), err_msg=name)
        np.testing.assert_array_equal(real.numpy(), next(iter(model.result.run(inputs.numpy()).values())))

    def test_a_waveformer_computes_the_integers_of_its_network(self):
        length = 1024
        model = waveformer(length)
        data = torch.randn(12, 1, length) * 0.3
        q = waveq.torch.prepare(model, {"audio": data}, example_inputs=data[:1], weight_levels=16)
        self.assertTrue(q.graph.batched)
        self.same_everywhere(q, data[:5])

        # One step of training, then the integers are those of the network lowered anew.
        optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
        before = {n: p.detach().clone() for n, p in q.named_parameters()}
        loss = torch.nn.functional.cross_entropy(q(data), torch.arange(12) % 5)
        loss.backward()
        self.assertTrue(all(torch.isfinite(p.grad).all() for p in q.parameters() if p.grad is not None))
        optimizer.step()
        moved = [n for n, p in q.named_parameters() if n.startswith("weights") and not torch.equal(p, before[n])]
        self.assertGreater(len(moved), 100)
        result = q.refresh()
        self.assertTrue(result.proof["overflow_free"])
        self.same_everywhere(q, data[:5])
        self.assertEqual(np.abs(max((c for n, c in result.network.constants().items() if n.endswith("_weight")),
                                    key=lambda c: np.abs(c).max())).max(), 7)

        # What is exported is what was trained.
        exported = waveq.torch.export(q, {"audio": data}, self.dir / "out")
        self.assertEqual(exported.network.dump(), result.network.dump())
        np.testing.assert_array_equal(exported.run(data.numpy())["output"], q(data).detach().numpy())
        self.assertEqual(waveq.verify(self.dir / "out")["mismatches"], [])

    def test_other_operators_and_two_dimensions(self):
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = torch.nn.Sequential(torch.nn.Conv2d(2, 6, 3, padding=1, bias=False), torch.nn.BatchNorm2d(6),
                                                torch.nn.ReLU(), torch.nn.MaxPool2d(2))
                self.depthwise = torch.nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)
                self.head = torch.nn.Linear(6, 4)

            def forward(self, x):
                x = torch.relu(self.depthwise(self.stem(x))) + 0.5
                return self.head(x.mean((2, 3)))

        torch.manual_seed(1)
        data = torch.randn(10, 2, 12, 12)
        q = waveq.torch.prepare(Net().eval(), {"x": data}, example_inputs=data[:1])
        self.same_everywhere(q, data[:4])
        q(data).square().sum().backward()
        trained = [p for p in q.weight_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        self.assertEqual(len(trained), 7)  # three weights, two biases, gain and shift of the normalization

    def test_batch_normalization_is_folded_while_training(self):
        torch.manual_seed(5)
        module = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3, bias=False), torch.nn.BatchNorm1d(4), torch.nn.ReLU(),
                                     torch.nn.Flatten(), torch.nn.Linear(4 * 14, 3))
        with torch.no_grad():
            for _ in range(50):
                module(torch.randn(16, 1, 16) * 2 + 1)
            module[1].weight.uniform_(0.5, 2)
            module[1].bias.uniform_(-1, 1)
        module.eval()
        data = torch.randn(32, 1, 16) * 2 + 1
        q = waveq.torch.prepare(module, {"input": data}, example_inputs=data[:1])
        optimizer = torch.optim.SGD(q.parameters(), lr=0.05)
        before = {n: p.detach().clone() for n, p in module.named_parameters()}
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(q(data), torch.arange(32) % 3).backward()
            optimizer.step()
        changed = [n for n, p in module.named_parameters() if not torch.equal(p, before[n])]
        self.assertEqual(len(changed), 5, changed)  # every parameter of the user's module
        q.refresh()
        self.same_everywhere(q, data)
        # The float network behind the integers is the user's module.
        real = q.float_model().run(data.numpy())["output"]
        np.testing.assert_allclose(real, module(data).detach().numpy(), rtol=1e-4, atol=1e-4)

    def test_training_lowers_the_loss_of_the_integer_network(self):
        torch.manual_seed(2)
        teacher = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        x = torch.randn(256, 8)
        target = teacher(x).argmax(1)
        q = waveq.torch.prepare(teacher, {"input": x}, example_inputs=x[:1], weight_levels=4)

        def loss():
            return torch.nn.functional.cross_entropy(q(x), target)

        start = loss().item()
        optimizer = torch.optim.Adam(q.parameters(), lr=1e-2)
        for step in range(60):
            optimizer.zero_grad()
            current = loss()
            current.backward()
            optimizer.step()
            if step % 20 == 19:
                q.refresh()
        self.assertLess(loss().item(), 0.8 * start)

    def test_weights_that_read_a_zero_point_move_and_learn_as_in_the_float_network(self):
        torch.manual_seed(6)
        module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
        x = 4 * torch.randn(64, 8)
        q = waveq.torch.prepare(module, {"input": x}, example_inputs=x[:1])
        reads = [q.result.network.tensor(n.inputs[0]) for n in q.result.network.nodes if n.op == "Gemm"]
        self.assertGreater(reads[-1].zero_point, 0)
        weight = module[2].weight

        # The slope by a weight is what it is multiplied with, scale * (code - zero point); some outputs are clipped.
        q(x).sum().backward()
        learned, weight.grad = weight.grad.clone(), None
        module(x).sum().backward()
        np.testing.assert_allclose(learned.numpy(), weight.grad.numpy(), atol=0.05 * float(weight.grad.abs().max()))

        # Codes whose sum is another give what the network lowered with them gives.
        with torch.no_grad():
            largest = weight.abs().amax(1, keepdim=True)
            weight += torch.where(weight.abs() < 0.5 * largest, 0.4 * largest, 0 * largest)
            moved = q(x)
            q.refresh()
            np.testing.assert_allclose(moved.numpy(), q(x).numpy(), atol=1.01 * q.graph.outputs[0].scale)

    def test_learned_ranges_are_pinned_and_change_the_scales(self):
        torch.manual_seed(3)
        x = torch.randn(64, 8)
        q = waveq.torch.prepare(torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)),
                                {"input": x}, example_inputs=x[:1])
        carried = {f: s for f, _, s in q.result.correspondences}
        with torch.no_grad():
            for p in q.range_parameters():
                p.fill_(float(np.log(2)))
        q.refresh()
        after = {f: s for f, _, s in q.result.correspondences}
        names = list(q._range_keys)
        self.assertGreaterEqual(len(names), 2)
        for name in names:
            self.assertTrue(q.calibration_table().pinned(name))
            self.assertAlmostEqual(after[name] / carried[name], 2, delta=0.02)
        fixed = waveq.torch.prepare(torch.nn.Linear(8, 4), {"input": x}, example_inputs=x[:1], learn_ranges=False)
        self.assertEqual(len(fixed.ranges), 0)

    def test_attention_with_softmax_and_layer_norm(self):
        class Attention(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = torch.nn.LayerNorm(16)
                self.q, self.k, self.v = (torch.nn.Linear(16, 16) for _ in range(3))
                self.out = torch.nn.Linear(16, 5)

            def forward(self, x):
                y = self.norm(x)
                scores = torch.matmul(self.q(y), self.k(y).transpose(1, 2)) / 4
                return self.out(torch.matmul(torch.softmax(scores, -1), self.v(y)) + x)

        torch.manual_seed(4)
        data = torch.randn(8, 12, 16)
        for softmax, target in (("ibert", "deeploy-generic"), ("itamax", "deeploy-generic"), ("lut", "waveq")):
            recipe = waveq.Recipe()
            recipe.softmax, recipe.target = softmax, target
            # LayerNormalization is an operator from opset 17 on; before, its parts are found again.
            q = waveq.torch.prepare(Attention().eval(), {"x": data}, example_inputs=data[:1], recipe=recipe)
            self.same_everywhere(q, data[:3])
            q(data).square().sum().backward()
            self.assertTrue(all(p.grad is not None and torch.isfinite(p.grad).all() for p in q.weight_parameters()))
        pulp = waveq.torch.prepare(Attention().eval(), {"x": data}, example_inputs=data[:1], target="deeploy-siracusa")
        self.assertIn("iRMSNorm", {n.op for n in pulp.result.network.nodes})
        self.same_everywhere(pulp, data[:3])

    def test_operators_without_a_form_are_named(self):
        x = torch.randn(64, 8)
        q = waveq.torch.prepare(torch.nn.Linear(8, 4), {"input": x}, example_inputs=x[:1])
        from waveq.torch import _graph
        with unittest.mock.patch.dict(_graph._OPERATORS):
            del _graph._OPERATORS["Gemm"]
            with self.assertRaises(waveq.Error) as caught:
                q.refresh()
        self.assertEqual((caught.exception.code, caught.exception.where), ("unsupported", "Gemm"))


class Example(support.Case):
    def test_the_example_prints_three_accuracies(self):
        script = support.SOURCE / "examples/qat_waveformer/qat.py"
        done = subprocess.run([sys.executable, str(script), "--quick", "-o", str(self.dir / "out"), "--clips", "90",
                               "--epochs", "1", "--tune-epochs", "1"], capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertRegex(done.stdout, r"(?s)float +[\d.]+ %.*after training +[\d.]+ %.*fine-tuned +[\d.]+ %.*margin")
        for name in ("after_training", "fine_tuned"):
            self.assertEqual(waveq.verify(self.dir / "out" / name)["mismatches"], [])


if __name__ == "__main__":
    support.main()
