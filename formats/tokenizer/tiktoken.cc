#include "formats/tokenizer/tiktoken.h"

#include <charconv>
#include <map>

#include "core/error.h"
#include "formats/tokenizer/bpe.h"
#include "formats/tokenizer/byte_level.h"
#include "formats/tokenizer/charsmap.h"
#include "formats/tokenizer/config_tokens.h"
#include "formats/tokenizer/gguf_splits.h"
#include "formats/tokenizer/pipeline.h"

namespace pith {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;
constexpr const char* kFile = "tiktoken.model";

struct Line {
  std::string_view base64;
  uint64_t rank = 0;
};

// False where it is another kind of line.
bool parse_line(std::string_view text, Line* line) {
  if (text.ends_with('\r')) text.remove_suffix(1);
  const size_t blank = text.find(' ');
  if (blank == 0 || blank == std::string_view::npos) return false;
  line->base64 = text.substr(0, blank);
  const std::string_view rank = text.substr(blank + 1);
  const auto [end, error] = std::from_chars(rank.data(), rank.data() + rank.size(), line->rank);
  return error == std::errc() && end == rank.data() + rank.size();
}

std::string_view take_line(std::string_view* rest) {
  const std::string_view line = rest->substr(0, rest->find('\n'));
  rest->remove_prefix(std::min(rest->size(), line.size() + 1));
  return line;
}

std::shared_ptr<Vocabulary> read_ranks(std::string_view rest) {
  auto made = std::make_shared<Vocabulary>();
  for (uint64_t number = 1; !rest.empty(); ++number) {
    const std::string_view text = take_line(&rest);
    if (text.empty() || text == "\r") continue;
    Line line;
    if (!parse_line(text, &line))
      fail(ErrorKind::kCorrupt, "{}: line {} is not a byte string and a rank", kFile, number);
    std::string spelled;
    append_byte_level(spelled,
                      decode_base64(line.base64, fmt::format("{}: line {}", kFile, number)));
    if (spelled.empty() || made->find(spelled) >= 0)
      fail(ErrorKind::kCorrupt, "{}: line {}: an empty byte string, or one twice", kFile, number);
    made->add(spelled, line.rank, kFile);
  }
  made->check_density(kFile);
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(static_cast<unsigned char>(byte));
    std::string spelled;
    append_byte_level(spelled, {&c, 1});
    if (made->find(spelled) < 0)
      fail(ErrorKind::kCorrupt, "{}: the byte {:02x} has no rank", kFile, byte);
  }
  return made;
}

// Ids between the tokens of the configuration are reserved, and have names by which text has them.
void add_reserved(const Vocabulary& vocabulary, std::vector<AddedToken>& added) {
  std::map<int32_t, bool> named;
  for (const auto& token : added) named[token.id] = true;
  const int32_t end = named.empty() ? 0 : named.rbegin()->first;
  for (int32_t id = vocabulary.size(); id < end; ++id) {
    if (named.contains(id)) continue;
    if (added.size() >= AddedTokens::kMax)
      fail(ErrorKind::kCorrupt, "tokenizer_config.json: token {} lies far behind the last rank",
           end);
    AddedToken token;
    token.text = fmt::format("<|reserved_token_{}|>", id);
    token.id = id;
    token.special = true;
    added.push_back(std::move(token));
  }
}

}  // namespace

bool looks_like_tiktoken(std::string_view file) {
  Line line;
  return parse_line(take_line(&file), &line) &&
         line.base64.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
             "0123456789+/=") == std::string_view::npos;
}

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view model,
                                                   std::string_view tokenizer_config) {
  if (model.size() > kMaxFileBytes)
    fail(ErrorKind::kCorrupt, "{}: {} bytes, more than {}", kFile, model.size(), kMaxFileBytes);
  const Json config = parse_tokenizer_config(tokenizer_config);
  const auto vocabulary = read_ranks(model);
  PipelineParts parts;
  parts.file = kFile;
  parts.vocabulary = vocabulary;
  add_config_tokens(config, ConfigIds::kAsGiven, *vocabulary, parts);
  add_reserved(*vocabulary, parts.added);
  // The best rank merges first.
  ScoredBpeVocabulary scored;
  for (int32_t id = 0; id < vocabulary->size(); ++id)
    scored.scores.push_back(-static_cast<float>(id));
  scored.mergeable.assign(scored.scores.size(), true);
  scored.unused.assign(scored.scores.size(), false);
  BpeOptions options;
  options.ignore_merges = true;
  parts.model = make_scored_bpe(vocabulary, std::move(scored), options);
  const std::string type = json_string(config, "tokenizer_class", "tokenizer_config.json", "");
  const bool kimi = type.empty() || type.starts_with("TikToken") || type.starts_with("Kimi");
  std::vector<PreTokenizerPtr> splits;
  for (const auto pattern : find_gguf_split(kimi ? "kimi-k2" : "llama-bpe")->patterns)
    splits.push_back(split_regex(Regex(pattern, kFile), SplitBehavior::kIsolated, false));
  splits.push_back(split_byte_level(false, false, kFile));
  parts.pre_tokenizer = split_sequence(std::move(splits));
  parts.decoder = decode_byte_level();
  if (parts.bos && json_bool(config, "add_bos_token", "tokenizer_config.json", false))
    parts.post_processor.before = {*parts.bos};
  if (parts.eos && json_bool(config, "add_eos_token", "tokenizer_config.json", false))
    parts.post_processor.after = {*parts.eos};
  return make_pipeline(std::move(parts));
}

}  // namespace pith
