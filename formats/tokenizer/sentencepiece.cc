// The .model files of SentencePiece: a ModelProto (sentencepiece_model.proto).
//   ModelProto       pieces = 1, trainer_spec = 2, normalizer_spec = 3
//   SentencePiece    piece = 1, score = 2 (float), type = 3
//   TrainerSpec      model_type = 3, treat_whitespace_as_suffix = 24, unk_id = 40, bos_id = 41,
//   eos_id = 42 NormalizerSpec   precompiled_charsmap = 2, add_dummy_prefix = 3,
//   remove_extra_whitespaces = 4, escape_whitespaces = 5

#include "core/error.h"
#include "core/json.h"
#include "core/wire_reader.h"
#include "formats/tokenizer/config_tokens.h"
#include "formats/tokenizer/pieces.h"
#include "formats/tokenizer/pipeline.h"

namespace pith {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr const char* kConfig = "tokenizer_config.json";
constexpr int32_t kUnigram = 1, kBpe = 2;

struct ModelProto {
  std::vector<Piece> pieces;
  int32_t model_type = kUnigram;
  int32_t unknown = 0, bos = 1, eos = 2;
  SentencePieceSpacing spacing;
  std::string_view charsmap;
};

Piece read_piece(std::string_view message, const std::string& file) {
  Piece piece;
  for (WireReader r(message, file + ": piece"); r.next();) {
    if (r.field == 1) piece.text = r.as_message();
    if (r.field == 2) piece.score = r.as_float();
    if (r.field == 3) piece.type = piece_type(r.as_int(), file);
  }
  return piece;
}

void read_trainer(std::string_view message, const std::string& file, ModelProto& model) {
  for (WireReader r(message, file + ": trainer_spec"); r.next();) {
    if (r.field == 3) model.model_type = r.as_int();
    if (r.field == 24) model.spacing.suffix = r.as_bool();
    if (r.field == 40) model.unknown = r.as_int();
    if (r.field == 41) model.bos = r.as_int();
    if (r.field == 42) model.eos = r.as_int();
  }
}

void read_normalizer(std::string_view message, const std::string& file, ModelProto& model) {
  for (WireReader r(message, file + ": normalizer_spec"); r.next();) {
    if (r.field == 2) model.charsmap = r.as_message();
    if (r.field == 3) model.spacing.add_dummy_prefix = r.as_bool();
    if (r.field == 4) model.spacing.remove_extra = r.as_bool();
    if (r.field == 5) model.spacing.escape = r.as_bool();
  }
}

ModelProto read_model(std::string_view bytes, const std::string& file) {
  ModelProto model;
  for (WireReader r(bytes, file); r.next();) {
    if (r.field == 1) model.pieces.push_back(read_piece(r.as_message(), file));
    if (r.field == 2) read_trainer(r.as_message(), file, model);
    if (r.field == 3) read_normalizer(r.as_message(), file, model);
    if (model.pieces.size() > Vocabulary::kMaxIds)
      fail(ErrorKind::kCorrupt, "{}: too many pieces", file);
  }
  return model;
}

// Whether text gets a blank in front: the classes of Llama have a setting for it.
void apply_spacing(const Json& config, SentencePieceSpacing& spacing) {
  const std::string type = json_string(config, "tokenizer_class", kConfig, "LlamaTokenizer");
  if (type.find("Llama") != std::string::npos)
    spacing.add_dummy_prefix =
        json_bool(config, "add_prefix_space", kConfig, spacing.add_dummy_prefix);
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model_bytes,
                                                        std::string_view tokenizer_config) {
  const std::string file = "SentencePiece model";
  if (model_bytes.size() > kMaxFileBytes) {
    fail(ErrorKind::kCorrupt, "{}: {} bytes, more than {}", file, model_bytes.size(),
         kMaxFileBytes);
  }
  ModelProto model = read_model(model_bytes, file);
  const Json config = parse_tokenizer_config(tokenizer_config);
  const auto vocabulary = vocabulary_of_pieces(model.pieces, file);
  const auto checked = [&](int32_t id) {
    return id >= 0 && id < vocabulary->size() ? std::optional(id) : std::nullopt;
  };
  // The piece of type unknown counts; unk_id is what the trainer was told.
  int32_t unknown = checked(model.unknown).value_or(-1);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type == PieceType::kUnknown) unknown = static_cast<int32_t>(i);
  }
  PipelineParts parts;
  parts.file = file;
  parts.vocabulary = vocabulary;
  parts.added = added_of_pieces(model.pieces, false);
  parts.bos = checked(model.bos);
  parts.eos = checked(model.eos);
  if (parts.eos) parts.stops.push_back(*parts.eos);  // whatever the configuration calls so
  add_config_tokens(config, ConfigIds::kAsGiven, *vocabulary, parts);
  if (model.model_type == kBpe) {
    parts.model = bpe_of_pieces(model.pieces, vocabulary, unknown);
  } else if (model.model_type == kUnigram) {
    parts.model = unigram_of_pieces(model.pieces, vocabulary, unknown, file);
  } else {
    fail(ErrorKind::kUnsupported,
         "{}: model type {} is not supported, only unigram (1) and bpe (2)", file,
         model.model_type);
  }
  std::vector<std::pair<std::string_view, int32_t>> user_defined;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    if (model.pieces[i].type != PieceType::kUserDefined) continue;
    user_defined.emplace_back(model.pieces[i].text, static_cast<int32_t>(i));
  }
  apply_spacing(config, model.spacing);
  const auto normalizer = [&](const SentencePieceSpacing& spacing) {
    return normalize_sentencepiece(Charsmap(model.charsmap, file), ByteTrie(user_defined), spacing);
  };
  parts.normalizer = normalizer(model.spacing);
  if (!json_bool(config, "legacy", kConfig, true) && model.spacing.add_dummy_prefix) {
    SentencePieceSpacing later = model.spacing;
    later.add_dummy_prefix = false;
    parts.later_normalizer = normalizer(later);
  }
  parts.decoder = decoder_of_pieces(model.spacing.add_dummy_prefix && !model.spacing.suffix);
  const bool bpe = model.model_type == kBpe;
  if (parts.bos && json_bool(config, "add_bos_token", kConfig, bpe)) {
    parts.post_processor.before = {*parts.bos};
  }
  if (parts.eos && json_bool(config, "add_eos_token", kConfig, !bpe)) {
    parts.post_processor.after = {*parts.eos};
  }
  return make_pipeline(std::move(parts));
}

}  // namespace pith
