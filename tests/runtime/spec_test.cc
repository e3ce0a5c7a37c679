// What a specification implies, over random ones with every part that version 3 of the packed file
// can say: which matrices and vectors there are, that a file holds them, and that nothing runs a
// part that the forward pass does not compute.

#include "runtime/model/spec.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/rng.h"
#include "formats/features.h"
#include "formats/packed_file.h"
#include "runtime/model/source.h"
#include "tests/support/encodings.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

class RandomSpec {
 public:
  explicit RandomSpec(uint64_t seed) : rng_(seed) {}

  proto::ModelSpec make() {
    proto::ModelSpec m;
    m.set_family("random");
    m.set_vocab(static_cast<uint64_t>(between(1, 40)));
    m.set_hidden(static_cast<uint64_t>(8 * between(1, 3)));
    m.set_context(64);
    m.set_bos_token(-1);
    m.set_tied_head(often());
    if (rarely()) m.set_positions(64);
    if (rarely()) m.set_token_types(2);
    if (rarely()) norm(m.mutable_embedding_norm());
    if (rarely()) {
      for (int l = between(0, 2); l > 0; --l) layer(m.mutable_encoder()->add_layers(), true, false);
      norm(m.mutable_encoder()->mutable_final_norm());
    }
    for (int l = between(0, 3); l > 0; --l) layer(m.add_layers(), false, m.has_encoder());
    norm(m.mutable_final_norm());
    return m;
  }

 private:
  int between(int low, int high) {
    return low + static_cast<int>(rng_.next() % static_cast<uint64_t>(high - low + 1));
  }
  bool often() { return between(0, 1) == 0; }
  bool rarely() { return between(0, 3) == 0; }

  void norm(proto::Norm* n) {
    const int kind = between(0, 4);
    n->set_kind(kind == 0 ? proto::NORM_NONE : kind == 1 ? proto::NORM_LAYER : proto::NORM_RMS);
    n->set_eps(1e-5);
    n->set_bias(kind == 1 && often());
  }
  void mlp(proto::Mlp* m) {
    m->set_width(static_cast<uint64_t>(between(1, 30)));
    m->set_gated(often());
    m->set_bias(rarely());
    m->set_activation(proto::ACTIVATION_SILU);
  }
  void attention(proto::Attention* a, bool encoder, bool cross) {
    a->set_kv_heads(static_cast<uint32_t>(between(1, 2)));
    a->set_heads(a->kv_heads() * static_cast<uint32_t>(between(1, 2)));
    a->set_head_dim(4);
    a->set_output_bias(rarely());
    if (rarely()) norm(a->mutable_query_norm());
    if (rarely()) norm(a->mutable_key_norm());
    if (cross && often()) {
      a->set_source(proto::SOURCE_CROSS);
      return;
    }
    a->set_bidirectional(encoder);
    if (rarely()) a->set_window(8);
    if (rarely()) {  // MLA
      a->set_kv_heads(a->heads());
      a->mutable_rope()->set_dims(2);
      a->mutable_rope()->set_theta(1e4);
      a->mutable_latent()->set_rank(6);
      a->mutable_latent()->set_value_dim(3);
      if (a->query_norm().kind() != proto::NORM_NONE || often())
        a->mutable_latent()->set_query_rank(5);
      return;
    }
    a->set_qkv_bias(rarely());
    a->set_sinks(rarely());
    if (rarely()) {
      a->set_alibi(true);
    } else if (rarely()) {
      a->mutable_relative_bias()->set_buckets(8);
      a->mutable_relative_bias()->set_max_distance(16);
    }
  }
  void layer(proto::LayerSpec* layer, bool encoder, bool cross) {
    layer->set_parallel(rarely());
    for (int s = between(0, 3); s > 0; --s) {
      auto* sub = layer->add_sublayers();
      sub->set_name("s" + std::to_string(s));
      norm(sub->mutable_norm());
      if (!layer->parallel() && rarely()) norm(sub->mutable_output_norm());
      const int kind = between(0, 4);
      if (kind < 4 && rarely()) norm(sub->mutable_post_norm());
      if (kind < 2) {
        attention(sub->mutable_attention(), encoder, cross);
      } else if (kind < 4) {
        mlp(sub->mutable_mlp());
      } else {
        auto* moe = sub->mutable_moe();
        mlp(moe->mutable_expert());
        moe->set_experts(3);
        moe->set_chosen(2);
        moe->set_sigmoid(often());
        moe->set_choice_bias(moe->sigmoid());
        if (often()) mlp(moe->mutable_shared());
        moe->set_shared_gate(moe->has_shared() && often());
      }
    }
  }

  Rng rng_;
};

// Names and lengths of the vectors, counted once more: a norm has a weight, and perhaps a bias.
class Vectors {
 public:
  explicit Vectors(const proto::ModelSpec& m) : hidden_(static_cast<int64_t>(m.hidden())) {
    norm("embedding_norm", m.embedding_norm(), hidden_);
    layers("encoder.layers.", m.encoder().layers());
    norm("encoder.final_norm", m.encoder().final_norm(), hidden_);
    layers("layers.", m.layers());
    norm("final_norm", m.final_norm(), hidden_);
  }
  std::map<std::string, int64_t> lengths;

 private:
  void norm(const std::string& name, const proto::Norm& n, int64_t length) {
    if (n.kind() == proto::NORM_NONE) return;
    lengths[name] = length;
    if (n.bias()) lengths[name + "_bias"] = length;
  }
  template <class Layers>
  void layers(const std::string& prefix, const Layers& all) {
    for (int l = 0; l < all.size(); ++l) {
      for (const auto& s : all[l].sublayers()) {
        const std::string at = prefix + std::to_string(l) + "." + s.name() + ".";
        norm(at + "norm", s.norm(), hidden_);
        norm(at + "post_norm", s.post_norm(), hidden_);
        norm(at + "output_norm", s.output_norm(), hidden_);
        const auto& a = s.attention();
        norm(at + "query_norm", a.query_norm(), a.has_latent() ? 5 : 4);
        norm(at + "key_norm", a.key_norm(), a.has_latent() ? 6 : 4);
        if (a.sinks()) lengths[at + "sinks"] = a.heads();
        if (a.has_relative_bias()) lengths[at + "relative_bias"] = 8 * int64_t{a.heads()};
        if (s.moe().choice_bias()) lengths[at + "choice_bias"] = 3;
      }
    }
  }

  int64_t hidden_;
};

constexpr uint64_t kSpecs = 300;

template <class F>
void for_specs(uint64_t count, F f) {
  for (uint64_t seed = 0; seed < count; ++seed) {
    const proto::ModelSpec spec = RandomSpec(seed).make();
    SCOPED_TRACE(fmt::format("seed {}\n{}", seed, spec.DebugString()));
    ASSERT_NO_THROW(check_spec(spec, "x"));
    f(spec);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Spec, names_are_unique_and_of_their_stack) {
  std::set<std::string> features;
  for_specs(kSpecs, [&](const proto::ModelSpec& spec) {
    std::set<std::string> names;
    const auto linears = linears_of(spec);
    EXPECT_EQ(linears.front().name, "embedding");
    EXPECT_EQ(linears.back().name == "head", !spec.tied_head());
    for (const auto& l : linears) {
      ASSERT_TRUE(names.insert(l.name).second) << l.name;
      ASSERT_EQ(l.name.starts_with("encoder."), l.stack == StackId::kEncoder) << l.name;
      ASSERT_TRUE(l.n > 0 && l.k > 0) << l.name;
      if (l.layer < 0) continue;
      ASSERT_TRUE(l.name.starts_with(sublayer_prefix(spec, l.layer, l.sublayer, l.stack)));
      reads_stream(spec, l);
    }
    EXPECT_EQ(names.contains("positions"), spec.positions() > 0);
    EXPECT_EQ(names.contains("token_types"), spec.token_types() > 0);
    for (const auto& f : features_of(spec)) features.insert(f);
  });
  EXPECT_EQ(features.size(), known_features().size() - 2) << "all but those of encodings occur";
}

TEST(Spec, vectors_are_those_of_its_norms_biases_and_sinks) {
  for_specs(kSpecs, [](const proto::ModelSpec& spec) {
    std::map<std::string, int64_t> lengths;
    for (const auto& v : vectors_of(spec)) {
      ASSERT_TRUE(lengths.emplace(v.name, v.length).second) << v.name;
      ASSERT_EQ(v.name.starts_with("encoder."), v.stack == StackId::kEncoder) << v.name;
    }
    ASSERT_EQ(lengths, Vectors(spec).lengths);
  });
}

// A file of everything that the spec implies: every number comes back. Linears are in turn dense,
// sparse, and the sum of a sparse matrix and one of low rank.
TEST(Spec, packed_files_hold_what_it_implies) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("x.pith");
  for_specs(60, [&](const proto::ModelSpec& spec) {
    remove_file(path);
    {
      File file = File::create(path);
      PackedWriter writer(file);
      proto::Manifest m;
      *m.mutable_model() = spec;
      uint64_t seed = 1;
      const auto numbers = [&](int64_t n) { return test::uniform_values(n, seed++); };
      const auto add_floats = [&](int64_t n) {
        const auto values = numbers(n);
        return writer.add_plane(PlaneKind::kCodes, std::as_bytes(std::span(values)));
      };
      const auto add = [&](int64_t n, int64_t k, const Encoding& e) {
        return writer.add_weight(encode(e, n, k, numbers(n * k).data()));
      };
      const Encoding sparse =
          Encoding::sparse(Encoding::dense(DType::kF32), Sparsity::n_of_m(2, 4));
      for (const auto& l : linears_of(spec)) {
        auto* r = m.add_linears();
        r->set_name(l.name);
        r->set_n(static_cast<uint64_t>(l.n));
        r->set_k(static_cast<uint64_t>(l.k));
        const bool dense = seed % 3 == 0;
        *r->add_terms()->mutable_weight() =
            add(l.n, l.k, dense ? Encoding::dense(DType::kF32) : sparse);
        if (seed % 3 == 1) {
          auto* low_rank = r->add_terms();
          *low_rank->mutable_weight() = add(2, l.k, Encoding::dense(DType::kF32));
          *low_rank->mutable_up() = add(l.n, 2, Encoding::dense(DType::kF32));
        }
        if (l.bias) *r->mutable_bias() = add_floats(l.n);
      }
      for (const auto& v : vectors_of(spec)) {
        auto* r = m.add_vectors();
        r->set_name(v.name);
        r->set_length(static_cast<uint64_t>(v.length));
        *r->mutable_plane() = add_floats(v.length);
      }
      writer.finish(m);
    }
    const auto source = open_model(path);
    uint64_t seed = 1;
    const auto expect_next = [&](const std::vector<float>& got) {
      ASSERT_EQ(got, test::uniform_values(std::ssize(got), seed++));
    };
    for (const auto& l : linears_of(spec)) {
      const Linear linear = source->linear(l);
      ASSERT_EQ(linear.n, l.n);
      for (const Term& t : linear.terms) {
        for (const Weight* w : {&t.w, t.up ? &*t.up : nullptr}) {
          if (w == nullptr) continue;
          const auto x = test::uniform_values(w->n * w->k, seed++);
          const Weight again = encode(w->encoding, w->n, w->k, x.data());
          for (const auto& p : again.planes)
            ASSERT_TRUE(std::ranges::equal(p.bytes, w->plane(p.kind))) << l.name;
        }
      }
      if (l.bias) expect_next(source->bias(l));
    }
    for (const auto& v : vectors_of(spec)) expect_next(source->vector(v));
  });
}

TEST(Spec, what_is_not_computed_yet_does_not_run) {
  int runs = 0;
  for_specs(kSpecs, [&](const proto::ModelSpec& spec) {
    const auto features = features_of(spec);
    if (features.empty()) {
      ++runs;
      EXPECT_NO_THROW(check_runs(spec, "x.pith"));
    } else {
      EXPECT_PITH_ERROR(
          check_runs(spec, "x.pith"), ErrorKind::kUnsupported,
          std::string("x.pith: the model has ") + find_feature(features.front())->meaning);
    }
  });
  EXPECT_GT(runs, 0);
}

}  // namespace
}  // namespace pith
