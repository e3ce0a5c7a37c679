// The files of a tokenizer: in a folder, or one by its content.

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/gguf.h"
#include "formats/stand_in.h"
#include "formats/tokenizer/config_tokens.h"
#include "formats/tokenizer/tiktoken.h"
#include "formats/tokenizer/tokenizer.h"

namespace pith {
namespace {

constexpr uint64_t kMaxConfig = uint64_t{16} << 20;
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxTemplate = uint64_t{1} << 20;

std::string read_if_there(const std::string& folder, const char* name, uint64_t max_bytes) {
  const std::string path = join_path(folder, name);
  if (!file_exists(path)) return "";
  std::string text = read_text_file(path, max_bytes);
  const bool no_template = text.empty() && path.ends_with(".jinja");
  if (!no_template) refuse_stand_in(std::string_view(text).substr(0, 512), path);
  return text;
}

// tokenizer_config.json has one template, or a list of them with names.
std::string template_of(const std::string& tokenizer_config, const std::string& name) {
  if (tokenizer_config.empty()) return "";
  const Json config = parse_json(tokenizer_config, name);
  const Json* found = json_find(config, "chat_template");
  if (found == nullptr) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) {
    fail(ErrorKind::kCorrupt, "{}: \"chat_template\" should be a string or a list, it is {}", name,
         found->type_name());
  }
  for (const Json& entry : *found) {
    if (json_string(entry, "name", name) == "default") return json_string(entry, "template", name);
  }
  return "";
}

// The chat template, in the order of transformers: a file of its own, as a template or in an
// object, or a member of the configuration.
std::string read_chat_template(const std::string& folder, const std::string& tokenizer_config) {
  std::string text = read_if_there(folder, "chat_template.jinja", kMaxTemplate);
  if (!text.empty()) return text;
  const std::string object = read_if_there(folder, "chat_template.json", kMaxConfig);
  text = template_of(object, join_path(folder, "chat_template.json"));
  if (!text.empty()) return text;
  text = template_of(tokenizer_config, join_path(folder, "tokenizer_config.json"));
  if (!text.empty()) return text;
  return read_if_there(join_path(folder, "additional_chat_templates"), "default.jinja",
                       kMaxTemplate);
}

// Some folders have a tokenizer.model of either kind.
void set_tokenizer_model(std::string model, TokenizerFiles* files) {
  if (!looks_like_tiktoken(model)) {
    files->sentencepiece = std::move(model);
    return;
  }
  files->tiktoken = std::move(model);
  // transformers splits text by Llama 3's pattern where nothing names a class.
  Json config = parse_tokenizer_config(files->tokenizer_config);
  if (json_find(config, "tokenizer_class") == nullptr) {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
    files->tokenizer_config = config.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
}

}  // namespace

TokenizerFiles read_tokenizer_files(const std::string& folder) {
  TokenizerFiles t;
  t.from = folder;
  t.tokenizer_config = read_tokenizer_config(folder);
  t.chat_template = read_chat_template(folder, t.tokenizer_config);
  t.tokenizer_json = read_if_there(folder, "tokenizer.json", kMaxFileBytes);
  std::string model = read_if_there(folder, "tokenizer.model", kMaxFileBytes);
  if (!t.tokenizer_json.empty()) {
    if (!looks_like_tiktoken(model)) t.sentencepiece = std::move(model);
    return t;
  }
  set_tokenizer_model(std::move(model), &t);
  if (!t.empty()) return t;
  t.tiktoken = read_if_there(folder, "tiktoken.model", kMaxFileBytes);
  if (!t.empty()) return t;
  const std::string vocab = read_if_there(folder, "vocab.json", kMaxFileBytes);
  const std::string merges = read_if_there(folder, "merges.txt", kMaxFileBytes);
  if (!vocab.empty() && !merges.empty())
    t.tokenizer_json = tokenizer_json_of(vocab, merges, t.tokenizer_config);
  return t;
}

TokenizerFiles read_tokenizer_file(const std::string& path) {
  TokenizerFiles files;
  files.from = path;
  const File file = File::open_read(path);
  std::vector<std::byte> head(std::min<uint64_t>(file.size(), 4));
  file.read(0, head);
  if (looks_like_gguf(head)) {
    files.gguf = write_gguf_metadata(open_gguf(path).gguf, "tokenizer.");
    return files;
  }
  std::string text = read_text_file(path, kMaxFileBytes);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '{') {
    files.tokenizer_json = std::move(text);
    files.tokenizer_config = read_tokenizer_config(folder_of(path));
  } else if (looks_like_tiktoken(text)) {
    files.tokenizer_config = read_tokenizer_config(folder_of(path));
    if (path.ends_with("tiktoken.model")) {
      files.tiktoken = std::move(text);
    } else {
      set_tokenizer_model(std::move(text), &files);
    }
  } else if (text.size() > 2 && text[0] == '\n' && (text[2] == '\n' || text[3] == '\n')) {
    files.tokenizer_config = read_tokenizer_config(folder_of(path));
    files.sentencepiece = std::move(text);  // field 1, a message whose first field is 1 as well
  } else if (text.size() > 12 && text[2] == 0 && text[3] == 0) {
    files.llama2c = std::move(text);  // the longest token has fewer than 65,536 bytes
  } else {
    fail(ErrorKind::kUnsupported,
         "{}: not a tokenizer.json, a GGUF file, a SentencePiece or tiktoken model or a vocabulary "
         "of "
         "llama2.c",
         path);
  }
  return files;
}

TokenizerFiles read_tokenizer_file(const std::string& path, const TokenizerFiles& own) {
  TokenizerFiles files = read_tokenizer_file(path);
  if (files.chat_template.empty()) files.chat_template = own.chat_template;
  return files;
}

TokenizerFiles tokenizer_files_of(const Checkpoint& checkpoint, const std::string& tokenizer_path) {
  const std::string& path = checkpoint.path;
  if (!tokenizer_path.empty()) return read_tokenizer_file(tokenizer_path, checkpoint.tokenizer);
  if (checkpoint.tokenizer.empty())
    return read_tokenizer_files(is_folder(path) ? path : folder_of(path));
  TokenizerFiles own = checkpoint.tokenizer;
  own.from = path;
  return own;
}

}  // namespace pith
