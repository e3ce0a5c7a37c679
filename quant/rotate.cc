#include "quant/rotate.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "quant/orthogonal.h"

namespace pith {
namespace {

constexpr int64_t kTile = 16;  // rows or columns, where nothing mixes them

// W' = left^T W diag(scale) right; left and right by blocks of their sizes, or null.
struct Factors {
  const Orthogonal* left = nullptr;
  const Orthogonal* right = nullptr;
  std::vector<float> scale;  // or empty

  int64_t row_unit() const { return left ? left->size() : 1; }
};

// to [n, m] = transpose of from [m, n]
void transpose(const double* from, int64_t m, int64_t n, double* to) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) to[j * m + i] = from[i * n + j];
  }
}

// One tile of w [rows, k], in place: rows of a whole block of `left`, columns of one of `right`.
void rotate_tile(const Factors& f, int64_t rows, int64_t column, int64_t columns, int64_t k,
                 float* w) {
  thread_local Buffer<double> tile, turned;
  tile.require(rows * columns);
  turned.require(rows * columns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const double scale =
          f.scale.empty() ? 1.0 : static_cast<double>(f.scale[static_cast<size_t>(column + c)]);
      tile[r * columns + c] = scale * static_cast<double>(w[r * k + column + c]);
    }
  }
  if (f.right) {
    transpose(tile.data(), rows, columns, turned.data());
    f.right->apply(turned.data(), rows);
    transpose(turned.data(), columns, rows, tile.data());
  }
  if (f.left) f.left->apply(tile.data(), columns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      w[r * k + column + c] = static_cast<float>(tile[r * columns + c]);
  }
}

// w [rows, k] in place; `rows` a multiple of the row unit.
void rotate_rows(const Factors& f, int64_t rows, int64_t k, float* w) {
  const int64_t tile_rows = f.left ? f.left->size() : kTile,
                tile_columns = f.right ? f.right->size() : kTile;
  const int64_t across = ceil_div(k, tile_columns);
  parallel_for(ceil_div(rows, tile_rows) * across, [&](int64_t i) {
    const int64_t row = i / across * tile_rows, column = i % across * tile_columns;
    rotate_tile(f, std::min(tile_rows, rows - row), column, std::min(tile_columns, k - column), k,
                w + row * k);
  });
}

template <class V>
void describe(V& v, RotateOptions& o) {
  v("residual", o.residual, "rotate the residual stream");
  v("values", o.values, "rotate the values of heads");
  v("seed", o.seed, "of the rotations");
}

std::string text_of(RotateOptions options) {
  SettingsWriter writer("rotate");
  describe(writer, options);
  return writer.text();
}

class RotatedSource final : public ForwardingSource {
 public:
  RotatedSource(const ModelSource& inner, const RotateOptions& options)
      : ForwardingSource(inner), options_(options), spec_(inner.spec()) {
    if (options.residual) {
      check_norm(spec_.final_norm(), "final_norm");
      spec_.set_tied_head(false);
      residual_.emplace(static_cast<int64_t>(spec_.hidden()), options.seed, 0);
    }
    for (int l = 0; l < spec_.layers_size(); ++l) {
      for (int s = 0; s < spec_.layers(l).sublayers_size(); ++s) {
        const auto& sub = spec_.layers(l).sublayers(s);
        if (options.residual) {
          check_norm(sub.norm(), sublayer_prefix(spec_, l, s) + "norm");
          if (sub.post_norm().kind() != proto::NORM_NONE)
            fail(ErrorKind::kUnsupported,
                 "{}post_norm: with a post-norm the residual stream cannot be rotated",
                 sublayer_prefix(spec_, l, s));
        }
        if (!options.values || !sub.has_attention()) continue;
        const int64_t size = value_dim(sub.attention());
        if (!heads_.contains(size)) heads_.emplace(size, Orthogonal(size, options.seed, 1));
      }
    }
  }

  const proto::ModelSpec& spec() const override { return spec_; }
  uint64_t hash() const override {
    return hash64(as_bytes(fmt::format("{:x} ", inner_.hash()) + recipe()));
  }
  std::string recipe() const override { return inner_.recipe() + text_of(options_); }

  Linear linear(const LinearInfo& info) const override {
    const Factors f = rotations(info);
    return f.left || f.right ? linear_from_rows(info) : inner_.linear(info);
  }
  // Inputs are not those that a rounding was made for any more.
  LinearForm form(const LinearInfo& info) const override {
    const Factors f = rotations(info);
    return f.left || f.right ? plain_form(Encoding::dense(DType::kF32)) : inner_.form(info);
  }
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override {
    const Factors f = factors(info);
    if (!f.left && !f.right) return inner_.rows(info, row, rows, out);
    const int64_t unit = f.row_unit(), begin = row / unit * unit,
                  end = ceil_div(row + rows, unit) * unit;
    if (begin == row && end == row + rows) return make_rows(f, info, row, rows, out);
    Buffer<float> whole((end - begin) * info.k);
    make_rows(f, info, begin, end - begin, whole.data());
    std::copy_n(whole.data() + (row - begin) * info.k, rows * info.k, out);
  }
  std::vector<float> bias(const LinearInfo& info) const override {
    std::vector<float> b = inner_.bias(info);
    const Factors f = rotations(info);
    if (f.left && !b.empty()) rotate_rows({f.left, nullptr, {}}, info.n, 1, b.data());
    return b;
  }
  std::vector<float> vector(const VectorInfo& info) const override {
    if (residual_ && is_on_stream(info))
      return std::vector<float>(static_cast<size_t>(info.length), 1.0f);
    return inner_.vector(info);
  }

 private:
  static void check_norm(const proto::Norm& norm, const std::string& name) {
    if (norm.kind() != proto::NORM_RMS && norm.kind() != proto::NORM_NONE) {
      fail(ErrorKind::kUnsupported,
           "{}: a norm of kind {} does not commute with a rotation of its input", name,
           static_cast<int>(norm.kind()));
    }
  }
  // Norms of queries and keys act by head, after the linears that read the residual stream.
  static bool is_on_stream(const VectorInfo& info) {
    return info.role == VectorRole::kNorm || info.role == VectorRole::kFinalNorm;
  }

  const Orthogonal* residual() const { return residual_ ? &*residual_ : nullptr; }
  const Orthogonal* head(const LinearInfo& info) const {
    const auto it =
        heads_.find(value_dim(spec_.layers(info.layer).sublayers(info.sublayer).attention()));
    return it == heads_.end() ? nullptr : &it->second;
  }
  // Its rows are directions of the hidden states: what it reads of them, or an embedding.
  bool on_stream(const LinearInfo& info) const {
    return info.role == LinearRole::kEmbedding || reads_stream(spec_, info);
  }
  // Left and right alone.
  Factors rotations(const LinearInfo& info) const {
    switch (info.role) {
      case LinearRole::kValue:
        return {head(info), residual(), {}};
      case LinearRole::kOutput:
        return {residual(), head(info), {}};
      case LinearRole::kDown:
        return {residual(), nullptr, {}};
      case LinearRole::kValueUp:
        return {head(info), nullptr, {}};
      default:
        return {nullptr, on_stream(info) ? residual() : nullptr, {}};
    }
  }
  Factors factors(const LinearInfo& info) const {
    Factors f = rotations(info);
    if (!residual_ || !reads_stream(spec_, info)) return f;
    const bool outside = info.layer < 0;
    const auto& norm =
        outside ? spec_.final_norm() : spec_.layers(info.layer).sublayers(info.sublayer).norm();
    if (norm.kind() == proto::NORM_NONE) return f;
    if (outside) {
      f.scale = inner_.vector({"final_norm", VectorRole::kFinalNorm, -1, 0, info.k});
    } else {
      f.scale = inner_.vector({sublayer_prefix(spec_, info.layer, info.sublayer) + "norm",
                               VectorRole::kNorm, info.layer, info.sublayer, info.k});
    }
    return f;
  }

  void make_rows(const Factors& f, const LinearInfo& info, int64_t row, int64_t rows,
                 float* out) const {
    LinearInfo from = info;
    if (info.role == LinearRole::kHead && inner_.spec().tied_head())
      from = linears_of(inner_.spec()).front();
    parallel_ranges(rows, 64, [&](int64_t begin, int64_t end) {
      inner_.rows(from, row + begin, end - begin, out + begin * info.k);
    });
    rotate_rows(f, rows, info.k, out);
  }

  RotateOptions options_;
  proto::ModelSpec spec_;
  std::optional<Orthogonal> residual_;
  std::map<int64_t, Orthogonal> heads_;  // by size
};

}  // namespace

RotateOptions read_rotate_options(SettingsReader& reader) {
  RotateOptions options;
  describe(reader, options);
  reader.finish();
  return options;
}

std::unique_ptr<ModelSource> rotate_model(const ModelSource& inner, const RotateOptions& options) {
  return std::make_unique<RotatedSource>(inner, options);
}

}  // namespace pith
