#include "formats/features.h"

#include <algorithm>
#include <set>

#include "formats/encodings/encoding.h"

namespace pith {
namespace {

constexpr Feature kFeatures[] = {
    {"attention.alibi", "ALiBi"},
    {"attention.bidirectional", "attention to later tokens"},
    {"attention.cross", "cross attention"},
    {"attention.relative_bias", "a learned bias by distance"},
    {"embedding.norm", "a norm of the embeddings"},
    {"embedding.positions", "learned positions"},
    {"embedding.token_types", "token types"},
    {"encoder", "an encoder stack"},
    {"encoding.sparse", "sparse matrices"},
    {"encoding.tcq", "trellis-coded matrices"},
    {"layer.parallel", "parallel sublayers"},
    {"norm.bias", "norms with a bias"},
    {"norm.layer", "layer norms"},
    {"norm.output", "norms of the residual stream (post-LN)"},
};

class Collector {
 public:
  void model(const proto::ModelSpec& m) {
    norm(m.final_norm());
    norm(m.embedding_norm());
    use(m.embedding_norm().kind() != proto::NORM_NONE, "embedding.norm");
    use(m.positions() > 0, "embedding.positions");
    use(m.token_types() > 0, "embedding.token_types");
    use(m.has_encoder(), "encoder");
    norm(m.encoder().final_norm());
    for (const auto& l : m.layers()) layer(l);
    for (const auto& l : m.encoder().layers()) layer(l);
  }
  void weight(const proto::WeightRecord& w) {
    use(w.encoding().has_sparsity(), "encoding.sparse");
    use(w.encoding().kind() == static_cast<uint32_t>(EncodingKind::kTcq), "encoding.tcq");
  }
  std::vector<std::string> names() const { return {used_.begin(), used_.end()}; }

 private:
  void use(bool used, const char* name) {
    if (used) used_.insert(name);
  }
  void norm(const proto::Norm& n) {
    use(n.kind() == proto::NORM_LAYER, "norm.layer");
    use(n.bias(), "norm.bias");
  }
  void layer(const proto::LayerSpec& l) {
    use(l.parallel(), "layer.parallel");
    for (const auto& s : l.sublayers()) {
      for (const auto* n : {&s.norm(), &s.post_norm(), &s.output_norm(),
                            &s.attention().query_norm(), &s.attention().key_norm()})
        norm(*n);
      use(s.output_norm().kind() != proto::NORM_NONE, "norm.output");
      const auto& a = s.attention();
      use(a.bidirectional(), "attention.bidirectional");
      use(a.source() == proto::SOURCE_CROSS, "attention.cross");
      use(a.alibi(), "attention.alibi");
      use(a.has_relative_bias(), "attention.relative_bias");
    }
  }

  std::set<std::string> used_;
};

}  // namespace

std::span<const Feature> known_features() { return kFeatures; }

const Feature* find_feature(std::string_view name) {
  const auto* it = std::ranges::find(kFeatures, name, &Feature::name);
  return it == std::end(kFeatures) ? nullptr : it;
}

std::vector<std::string> features_of(const proto::ModelSpec& spec) {
  Collector c;
  c.model(spec);
  return c.names();
}

std::vector<std::string> features_of(const proto::Manifest& manifest) {
  Collector c;
  c.model(manifest.model());
  for (const auto& l : manifest.linears()) {
    for (const auto& t : l.terms()) {
      c.weight(t.weight());
      c.weight(t.up());
    }
  }
  return c.names();
}

}  // namespace pith
