#include "worker/trainer/model/causal_lm.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include <fstream>
#include <map>

#include "common/status/testing.h"
#include "worker/trainer/export/export.h"
#include "worker/trainer/model/lora.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/model/weights.h"

namespace studio {
namespace {

using testing::HasSubstr;

ModelOptions WithLora(double dropout = 0) {
  ModelOptions options;
  options.lora = LoraConfig{};
  options.lora->r = 4;
  options.lora->alpha = 8;
  options.lora->dropout = dropout;
  return options;
}

double Distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item().toDouble(); }

// Norm of the difference over the norm.
double Relative(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item().toDouble() / std::max(1e-30, b.norm().item().toDouble());
}

// B starts at zero, which hides half of the gradients.
void FillAdapters(CausalLm& model) {
  at::NoGradGuard no_grad;
  for (const NamedTensor& t : model.Adapter()) {
    at::Tensor value = t.tensor;
    FillNormal(value, 0.1, 3, t.name);
  }
}

std::map<std::string, at::Tensor> Gradients(CausalLm& model, const std::vector<Batch>& batches, double scale = 0.25) {
  for (NamedParameter& p : model.TrainableParameters()) p.tensor.mutable_grad() = at::Tensor();
  for (const Batch& batch : batches) model.AccumulateGradients(batch, scale);
  std::map<std::string, at::Tensor> gradients;
  for (NamedParameter& p : model.TrainableParameters()) gradients[p.name] = p.tensor.grad().clone();
  return gradients;
}

void ExpectClose(const std::map<std::string, at::Tensor>& a, const std::map<std::string, at::Tensor>& b, double limit) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, gradient] : a) EXPECT_LT(Relative(gradient, b.at(name)), limit) << name;
}

TEST(CausalLm, PackedSegmentsEqualSeparateOnes) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("packed", {}));
  const std::vector<std::vector<int64_t>> rows = {RandomTokens(7, 1), RandomTokens(7, 2), RandomTokens(1, 3),
                                                  RandomTokens(23, 4)};
  const at::Tensor packed = model->Logits(Segments(rows));
  std::vector<at::Tensor> apart;
  std::vector<Batch> batches;
  for (const auto& row : rows) {
    batches.push_back(Segments({row}));
    apart.push_back(model->Logits(batches.back()));
  }
  EXPECT_LT(Distance(packed, at::cat(apart, 0)), 1e-4);
  ExpectClose(Gradients(*model, {Segments(rows)}), Gradients(*model, batches), 1e-5);
}

TEST(CausalLm, NoTokenSeesALaterOne) {
  for (const Attention attention : {Attention::kSdpa, Attention::kEager}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      ModelOptions options;
      options.attention = attention;
      options.compute_dtype = options.base_dtype = type;
      options.frozen = true;
      ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("causal", options));
      std::vector<int64_t> row = RandomTokens(40, 5);
      const at::Tensor before = model->Logits(Segments({row}));
      row[30] = (row[30] + 1) % 96;
      const at::Tensor after = model->Logits(Segments({row}));
      EXPECT_TRUE(at::equal(before.narrow(0, 0, 30), after.narrow(0, 0, 30)));
      EXPECT_GT(Distance(before.narrow(0, 30, 10), after.narrow(0, 30, 10)), 1e-3);
    }
  }
}

TEST(CausalLm, EagerAttentionAgreesWithTheFastOne) {
  const Batch batch = Segments({RandomTokens(19, 1), RandomTokens(33, 2)});
  ModelOptions options = WithLora();
  ASSERT_OK_AND_ASSIGN(const auto fast, LoadTiny("fast", options));
  options.attention = Attention::kEager;
  ASSERT_OK_AND_ASSIGN(const auto eager, LoadTiny("eager", options));
  FillAdapters(*fast);
  FillAdapters(*eager);
  EXPECT_LT(Distance(fast->Logits(batch), eager->Logits(batch)), 1e-4);
  ExpectClose(Gradients(*fast, {batch}), Gradients(*eager, {batch}), 1e-5);
}

TEST(CausalLm, LossIsTheSumOverLabelsInChunksOfAnySize) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("loss", {}));
  Batch batch = Segments({RandomTokens(20, 1), RandomTokens(11, 2)});
  batch.labels[3] = -100;
  batch.labels[4] = -100;
  const at::Tensor logs = at::log_softmax(model->Logits(batch), 1);
  double expected = 0;
  int64_t valid = 0;
  for (int64_t i = 0; i < batch.labels.size(0); ++i) {
    const int64_t label = batch.labels[i].item().toLong();
    if (label < 0) continue;
    expected -= logs[i][label].item().toDouble();
    ++valid;
  }
  const LossValue whole = model->Evaluate(batch);
  EXPECT_EQ(whole.valid_tokens, valid);
  EXPECT_NEAR(whole.loss_sum, expected, 1e-3);
  const auto gradients = Gradients(*model, {batch});
  model->set_loss_chunk_rows(3);
  EXPECT_NEAR(model->Evaluate(batch).loss_sum, whole.loss_sum, 1e-5);
  ExpectClose(Gradients(*model, {batch}), gradients, 1e-5);
}

TEST(CausalLm, BatchWithoutLabelsHasNoLossAndNoGradient) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("nolabels", WithLora()));
  Batch batch = Segments({RandomTokens(6, 1)});
  batch.labels.fill_(-100);
  const LossValue loss = model->AccumulateGradients(batch, 1);
  EXPECT_EQ(loss.valid_tokens, 0);
  EXPECT_EQ(loss.loss_sum, 0);
}

TEST(CausalLm, RecomputedLayersGiveTheSameBits) {
  const Batch batch = Segments({RandomTokens(30, 1), RandomTokens(9, 2)});
  for (const bool lora : {true, false}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      ModelOptions options = lora ? WithLora(0.1) : ModelOptions();
      options.compute_dtype = options.base_dtype = type;
      ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("recompute", options));
      if (lora) FillAdapters(*model);
      const auto plain = Gradients(*model, {batch});
      model->set_gradient_checkpointing(true);
      for (const auto& [name, gradient] : Gradients(*model, {batch})) {
        EXPECT_TRUE(at::equal(gradient, plain.at(name))) << name;
      }
    }
  }
}

TEST(CausalLm, HalfPrecisionIsCloseToSingle) {
  const Batch batch = Segments({RandomTokens(50, 1), RandomTokens(30, 2)});
  ModelOptions options = WithLora();
  ASSERT_OK_AND_ASSIGN(const auto single, LoadTiny("single", options));
  options.compute_dtype = options.base_dtype = at::kBFloat16;
  ASSERT_OK_AND_ASSIGN(const auto half, LoadTiny("half", options));
  FillAdapters(*single);
  FillAdapters(*half);
  const double loss = single->Evaluate(batch).loss_sum;
  EXPECT_NEAR(half->Evaluate(batch).loss_sum / loss, 1, 0.01);
  for (const auto& [name, gradient] : Gradients(*half, {batch})) {
    EXPECT_EQ(gradient.scalar_type(), at::kFloat);
  }
  ExpectClose(Gradients(*half, {batch}), Gradients(*single, {batch}), 0.1);
}

TEST(CausalLm, FreshAdapterChangesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto plain, LoadTiny("plain", {}));
  ASSERT_OK_AND_ASSIGN(const auto adapted, LoadTiny("adapted", WithLora()));
  const Batch batch = Segments({RandomTokens(20, 1)});
  EXPECT_TRUE(at::equal(plain->Logits(batch), adapted->Logits(batch)));
  FillAdapters(*adapted);
  EXPECT_GT(Distance(plain->Logits(batch), adapted->Logits(batch)), 1e-2) << "a changed leaf must be seen";
}

TEST(CausalLm, MasksOfDropoutFollowTheTokenNotTheBatch) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("dropout", WithLora(0.3)));
  FillAdapters(*model);
  Batch whole = Segments({RandomTokens(9, 1), RandomTokens(12, 2)});
  whole.step = 4;
  whole.mask_ids = at::cat(
      {Segments({RandomTokens(9, 1)}).positions, Segments({RandomTokens(12, 2)}).positions + (int64_t{1} << 32)}, 0);
  Batch first = Segments({RandomTokens(9, 1)});
  Batch second = Segments({RandomTokens(12, 2)});
  first.step = second.step = 4;
  second.mask_ids = second.positions + (int64_t{1} << 32);
  const auto together = Gradients(*model, {whole});
  ExpectClose(Gradients(*model, {first, second}), together, 1e-5);
  whole.step = 5;
  const auto other = Gradients(*model, {whole});
  const std::string name = together.begin()->first;
  EXPECT_GT(Relative(other.at(name), together.at(name)), 1e-2) << "another step has other masks";
}

TEST(CausalLm, SoftCapsBoundTheLogitsAndTheLossIsTheirs) {
  ASSERT_OK_AND_ASSIGN(const auto plain, LoadTiny("uncapped", {}));
  ASSERT_OK_AND_ASSIGN(const auto capped, LoadTiny("capped", {}, R"("final_logit_softcapping": 0.5)"));
  const Batch batch = Segments({RandomTokens(12, 1)});
  const at::Tensor logits = capped->Logits(batch);
  EXPECT_LT(Distance(logits, at::tanh(plain->Logits(batch) / 0.5) * 0.5), 1e-6);
  const at::Tensor learnt = batch.labels.ge(0).nonzero().squeeze(1);
  const at::Tensor labels = batch.labels.index_select(0, learnt).unsqueeze(1);
  const at::Tensor losses = -at::log_softmax(logits.index_select(0, learnt), 1).gather(1, labels);
  EXPECT_NEAR(capped->Evaluate(batch).loss_sum, losses.sum().item<double>(), 1e-4);
}

TEST(CausalLm, NoiseOnEmbeddingsIsForTrainingAlone) {
  ModelOptions options = WithLora();
  ASSERT_OK_AND_ASSIGN(const auto quiet, LoadTiny("quiet", options));
  options.neftune_alpha = 50;
  ASSERT_OK_AND_ASSIGN(const auto noisy, LoadTiny("noisy", options));
  const Batch batch = Segments({RandomTokens(20, 1)});
  EXPECT_EQ(noisy->Evaluate(batch).loss_sum, quiet->Evaluate(batch).loss_sum);
  EXPECT_NE(noisy->AccumulateGradients(batch, 1).loss_sum, quiet->AccumulateGradients(batch, 1).loss_sum);
}

TEST(CausalLm, GradientOfEveryWeightIsThatOfDifferences) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("differences", {}, R"("attention_bias": true, "mlp_bias": true,
                                "tie_word_embeddings": true, "final_logit_softcapping": 0.5)"));
  const Batch batch = Segments({RandomTokens(12, 1)});
  const auto gradients = Gradients(*model, {batch}, 1);
  at::NoGradGuard no_grad;
  for (NamedParameter& p : model->TrainableParameters()) {
    // Along the gradient itself: the loss grows by its squared norm.
    const at::Tensor& g = gradients.at(p.name);
    const double norm = g.norm().item().toDouble();
    if (norm < 1e-3) continue;  // k's bias moves no softmax
    const double step = 2e-3 / norm;
    p.tensor.add_(g, step);
    const double up = model->Evaluate(batch).loss_sum;
    p.tensor.add_(g, -2 * step);
    const double down = model->Evaluate(batch).loss_sum;
    p.tensor.add_(g, step);
    EXPECT_NEAR((up - down) / (2 * step) / (norm * norm), 1, 0.05) << p.name;
  }
}

TEST(CausalLm, ExportsComeBackTheSame) {
  const Batch batch = Segments({RandomTokens(20, 1)});
  ModelOptions options = WithLora();
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("exported", options, R"("attention_bias": true)"));
  FillAdapters(*model);
  const at::Tensor logits = model->Logits(batch);

  const std::string merged = testing::TempDir() + "/merged";
  ModelExportOptions sharded;
  sharded.max_shard_bytes = 40000;
  ASSERT_OK(ExportModel(*model, merged, sharded));
  EXPECT_TRUE(std::ifstream(merged + "/model.safetensors.index.json").good());
  ASSERT_OK_AND_ASSIGN(const auto whole, CausalLm::Load(merged, ModelOptions()));
  EXPECT_LT(Distance(whole->Logits(batch), logits), 1e-4);

  // The backbone beside its adapter.
  ASSERT_OK_AND_ASSIGN(const auto bare, LoadTiny("bare", {}, R"("attention_bias": true)"));
  const std::string base = testing::TempDir() + "/base";
  ASSERT_OK(ExportModel(*bare, base));
  const std::string adapter = testing::TempDir() + "/adapter";
  ASSERT_OK(ExportAdapter(*model, adapter, "tiny"));
  ASSERT_OK_AND_ASSIGN(options.lora, ReadAdapterConfig(adapter));
  options.adapter_dir = adapter;
  ASSERT_OK_AND_ASSIGN(const auto again, CausalLm::Load(base, options));
  EXPECT_TRUE(at::equal(again->Logits(batch), logits));
  EXPECT_THAT(ExportAdapter(*bare, adapter, ""), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("lora")));

  options.lora->r = 8;
  EXPECT_THAT(CausalLm::Load(base, options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("r 4")));
}

TEST(CausalLm, RefusesWeightsThatDoNotFitTheConfig) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("fits", {}));
  const std::string dir = testing::TempDir() + "/misfit";
  ASSERT_OK(ExportModel(*model, dir));
  ASSERT_OK(CausalLm::Load(dir, {}));
  TinyFolder("misfit", R"("intermediate_size": 81)");
  EXPECT_THAT(CausalLm::Load(dir, {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("asks for [81, 48]")));
  TinyFolder("misfit", R"("attention_bias": true)");
  EXPECT_THAT(CausalLm::Load(dir, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("q_proj.bias' is missing")));
  TinyFolder("misfit", R"("num_hidden_layers": 1)");
  EXPECT_THAT(CausalLm::Load(dir, {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has no place")));
  ModelOptions options = WithLora();
  options.lora->target_modules = {"q_proj", "qq_proj"};
  EXPECT_THAT(LoadTiny("targets", options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'qq_proj'")));
}

TEST(CausalLm, WeightsFromASeedAreTheSameInEveryType) {
  ModelOptions options;
  ASSERT_OK_AND_ASSIGN(const auto one, LoadTiny("seed", options));
  ASSERT_OK_AND_ASSIGN(const auto two, LoadTiny("seed", options));
  options.seed = 2;
  ASSERT_OK_AND_ASSIGN(const auto other, LoadTiny("seed", options));
  const auto first = [](CausalLm& model) { return model.TrainableParameters()[0].tensor; };
  EXPECT_TRUE(at::equal(first(*one), first(*two)));
  EXPECT_FALSE(at::equal(first(*one), first(*other)));
  EXPECT_NEAR(first(*one).detach().std().item().toDouble(), 0.2, 0.01);
}

}  // namespace
}  // namespace studio
