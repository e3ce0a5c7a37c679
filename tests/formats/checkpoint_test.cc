#include "formats/checkpoint.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "core/bytes.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/llama2c_bytes.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

using test::TemporaryFolder;

// A folder with a model of one matrix [3, 2] of bytes.
class Model {
 public:
  Model() {
    write_safetensors(file("model.safetensors"), {{"a", DType::kU8, {3, 2}, as_bytes("012345")},
                                                  {"empty", DType::kF32, {0, 4}, {}},
                                                  {"scalar", DType::kI32, {}, as_bytes("wxyz")}});
    put("config.json", "{\"model_type\":\"llama\"}");
  }
  void put(const std::string& name, std::string_view text) {
    write_file(file(name), as_bytes(text));
  }
  std::string file(const std::string& name) const { return folder_.file(name); }
  const std::string& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
};

std::string rows(const Checkpoint& c, const std::string& name, int64_t row, int64_t n,
                 size_t bytes) {
  std::string out(bytes, '?');
  c.read(c.require(name), row, n, std::as_writable_bytes(std::span(out)));
  return out;
}

TEST(Checkpoint, reads_rows) {
  const Model m;
  const Checkpoint c = open_checkpoint(m.path());
  EXPECT_EQ(rows(c, "a", 0, 3, 6), "012345");
  EXPECT_EQ(rows(c, "a", 1, 1, 2), "23");
  EXPECT_EQ(rows(c, "a", 1, 2, 4), "2345");
  EXPECT_EQ(rows(c, "a", 3, 0, 0), "");
  EXPECT_EQ(rows(c, "scalar", 0, 1, 4), "wxyz");
  EXPECT_EQ(rows(c, "empty", 0, 0, 0), "");
  EXPECT_PITH_ERROR(rows(c, "a", 2, 2, 4), ErrorKind::kUsage,
                    "rows 2 + 2 of tensor \"a\", which has 3");
  EXPECT_PITH_ERROR(rows(c, "a", -1, 1, 2), ErrorKind::kUsage, "rows -1");
  EXPECT_PITH_ERROR(rows(c, "a", 4, 0, 0), ErrorKind::kUsage, "rows 4");
  EXPECT_PITH_ERROR(rows(c, "a", 0, 1, 3), ErrorKind::kUsage, "are 2 bytes, not 3");
}

TEST(Checkpoint, a_missing_tensor_is_named) {
  const Model m;
  const Checkpoint c = open_checkpoint(m.path());
  EXPECT_EQ(c.find("b"), nullptr);
  EXPECT_PITH_ERROR(c.require("b"), ErrorKind::kCorrupt, "tensor \"b\" is missing");
}

TEST(Checkpoint, a_file_that_was_cut_short_since_is_an_io_error) {
  const Model m;
  const Checkpoint c = open_checkpoint(m.path());
  std::filesystem::resize_file(m.file("model.safetensors"), c.require("a").offset);
  EXPECT_PITH_ERROR(rows(c, "a", 0, 3, 6), ErrorKind::kIo, "bytes were expected");
}

TEST(Checkpoint, hash_changes_with_names_shapes_and_files) {
  const Model m;
  const uint64_t hash = open_checkpoint(m.path()).hash();
  EXPECT_EQ(open_checkpoint(m.path()).hash(), hash);
  EXPECT_EQ(open_checkpoint(m.file("model.safetensors")).hash(), hash);
  Checkpoint other = open_checkpoint(m.path());
  other.tensors[0].name += "x";
  EXPECT_NE(other.hash(), hash);
  other = open_checkpoint(m.path());
  TensorInfo& matrix = other.tensors[other.by_name.at("a")];
  std::swap(matrix.shape[0], matrix.shape[1]);
  EXPECT_NE(other.hash(), hash);
  const auto time = std::filesystem::last_write_time(m.file("model.safetensors"));
  std::filesystem::last_write_time(m.file("model.safetensors"), time + std::chrono::seconds(1));
  EXPECT_NE(open_checkpoint(m.path()).hash(), hash);
}

TEST(OpenCheckpoint, collects_the_files_of_the_tokenizer) {
  Model m;
  m.put("generation_config.json", "{\"eos_token_id\":7}");
  m.put("tokenizer.json", "{\"t\":1}");
  m.put("tokenizer_config.json", R"({"chat_template":"plain"})");
  m.put("tokenizer.model", "spm");
  for (const auto& path : {m.path(), m.file("model.safetensors")}) {
    const Checkpoint c = open_checkpoint(path);
    EXPECT_EQ(c.path, path);
    EXPECT_EQ(c.config.at("model_type"), "llama");
    EXPECT_EQ(c.generation_config.at("eos_token_id"), 7);
    EXPECT_TRUE(c.tokenizer.empty());
    const TokenizerFiles t = tokenizer_files_of(c);
    EXPECT_EQ(t.tokenizer_json, "{\"t\":1}");
    EXPECT_EQ(t.tokenizer_config, R"({"chat_template":"plain"})");
    EXPECT_EQ(t.sentencepiece, "spm");
    EXPECT_EQ(t.chat_template, "plain");
  }
  m.put("chat_template.jinja", "from file");
  EXPECT_EQ(tokenizer_files_of(open_checkpoint(m.path())).chat_template, "from file");
}

TEST(OpenCheckpoint, a_model_without_tokenizer_opens) {
  const Model m;
  const Checkpoint c = open_checkpoint(m.path());
  EXPECT_TRUE(tokenizer_files_of(c).empty());
  EXPECT_TRUE(c.generation_config.is_null());
}

TEST(OpenCheckpoint, of_several_chat_templates_takes_the_default) {
  Model m;
  const auto chat_template = [&](const char* config) {
    m.put("tokenizer_config.json", config);
    return tokenizer_files_of(open_checkpoint(m.path())).chat_template;
  };
  EXPECT_EQ(
      chat_template(
          R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]})"),
      "d");
  EXPECT_EQ(chat_template(R"({"chat_template":[{"name":"tool_use","template":"t"}]})"), "");
  EXPECT_EQ(chat_template(R"({"chat_template":[]})"), "");
  EXPECT_EQ(chat_template(R"({"chat_template":null})"), "");
  EXPECT_EQ(chat_template("{}"), "");
  EXPECT_PITH_ERROR(chat_template(R"({"chat_template":1})"), ErrorKind::kCorrupt,
                    "should be a string or a list");
  EXPECT_PITH_ERROR(chat_template(R"({"chat_template":["x"]})"), ErrorKind::kCorrupt,
                    "\"name\" is missing");
  EXPECT_PITH_ERROR(chat_template(R"({"chat_template":[{"name":"default"}]})"), ErrorKind::kCorrupt,
                    "\"template\" is missing");
  EXPECT_PITH_ERROR(chat_template("{"), ErrorKind::kCorrupt,
                    "tokenizer_config.json: not valid JSON");
}

TEST(OpenCheckpoint, recognises_files_by_content) {
  const Model m;
  std::filesystem::rename(m.file("model.safetensors"), m.file("weights"));
  EXPECT_EQ(open_checkpoint(m.file("weights")).kind, Checkpoint::Kind::kSafetensors);
  write_file(m.file("safetensors.gguf"), as_bytes(test::llama2c_bytes({})));
  const Checkpoint c = open_checkpoint(m.file("safetensors.gguf"));
  EXPECT_EQ(c.kind, Checkpoint::Kind::kLlama2c);
  EXPECT_EQ(c.config.at("model_type"), "llama2c");
}

TEST(OpenCheckpoint, real_files_open) {
  PITH_SHARED_OR_SKIP(data, "stories260K");
  const Checkpoint llama2c = open_checkpoint(data + "/stories260K.bin");
  EXPECT_EQ(llama2c.kind, Checkpoint::Kind::kLlama2c);
  EXPECT_FALSE(llama2c.tokenizer.llama2c.empty());
  PITH_SHARED_OR_SKIP(tiny, "tinystories-656K/bf16");
  const Checkpoint hf = open_checkpoint(tiny);
  EXPECT_FALSE(tokenizer_files_of(hf).tokenizer_json.empty());
  EXPECT_FALSE(hf.generation_config.is_null());
  PITH_SHARED_OR_SKIP(gguf, "tokenizers/ggml-vocab-gpt-2.gguf");
  const Checkpoint vocabulary = open_checkpoint(gguf);
  EXPECT_EQ(vocabulary.kind, Checkpoint::Kind::kGguf);
  EXPECT_TRUE(vocabulary.gguf.has("tokenizer.ggml.tokens"));
}

struct Unrecognised {
  const char* name;
  std::string bytes;
  ErrorKind kind;
  const char* text;
};
const Unrecognised kUnrecognised[] = {
    {"empty", "", ErrorKind::kCorrupt, "the file is empty"},
    {"one_byte", "x", ErrorKind::kCorrupt, "its first bytes are \"x\" (78)"},
    {"text", "hello world, this is text\n", ErrorKind::kCorrupt,
     "first bytes are \"hello wo\" (68 65 6c 6c 6f 20 77 6f)"},
    {"json", "{\"model_type\":1}", ErrorKind::kCorrupt, "neither safetensors, GGUF nor llama2.c"},
    {"zeros", std::string(4096, '\0'), ErrorKind::kCorrupt, "(00 00 00 00 00 00 00 00)"},
    {"cut_safetensors", test::u64_bytes(1000) + "{\"a\":", ErrorKind::kCorrupt,
     "header length 1000 goes beyond"},
    {"cut_gguf", "GGUF", ErrorKind::kCorrupt, ""},
    {"pickle_2", "\x80\x02}q\x01.", ErrorKind::kUnsupported, "to safetensors"},
    {"pickle_3", "\x80\x03}q\x01.", ErrorKind::kUnsupported, "is a pickle file"},
    {"pickle_4", std::string("\x80\x04\x95\0\0", 5), ErrorKind::kUnsupported, "is a pickle file"},
    {"pickle_5", std::string("\x80\x05\x95\0\0", 5), ErrorKind::kUnsupported, "is a pickle file"},
    {"old_torch_file", "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", ErrorKind::kUnsupported,
     "is a pickle file"},
    {"no_pickle_protocol_6", "\x80\x06}q\x01.", ErrorKind::kCorrupt, "(80 06 7d 71 01 2e)"},
    {"torch_zip",
     std::string("PK\3\4\0\0\x08\x08\0\0", 10) + "archive/data.pkl" + std::string(5000, 'x'),
     ErrorKind::kUnsupported, "is a pickle file"},
    {"torch_zip_with_data_pkl_last",
     "PK\3\4" + std::string(200'000, 'x') + "PK\1\2 m/data.pkl PK\5\6", ErrorKind::kUnsupported,
     "is a pickle file"},
    {"other_zip", "PK\3\4" + std::string(5000, 'x'), ErrorKind::kCorrupt,
     "first bytes are \"PK\\x03\\x04xxxx\""},
};
class UnrecognisedFile : public testing::TestWithParam<Unrecognised> {};
TEST_P(UnrecognisedFile, is_refused_with_what_it_is) {
  const TemporaryFolder folder;
  write_file(folder.file("config.json"), as_bytes("{}"));
  write_file(folder.file("file"), as_bytes(GetParam().bytes));
  EXPECT_PITH_ERROR(open_checkpoint(folder.file("file")), GetParam().kind, GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(Table, UnrecognisedFile, testing::ValuesIn(kUnrecognised),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(OpenCheckpoint, a_folder_of_pickled_weights_is_refused_with_a_remedy) {
  for (const char* name : {"pytorch_model.bin", "pytorch_model-00001-of-00002.bin"}) {
    const TemporaryFolder folder;
    write_file(folder.file("config.json"), as_bytes("{}"));
    write_file(folder.file(name), as_bytes("PK"));
    EXPECT_PITH_ERROR(open_checkpoint(folder.path()), ErrorKind::kUnsupported,
                      "pytorch_model*.bin is a pickle");
  }
  const Model m;
  write_file(m.file("pytorch_model.bin"), as_bytes("PK"));
  EXPECT_NO_THROW(open_checkpoint(m.path()));
}

TEST(OpenCheckpoint, what_is_not_there_is_an_io_error) {
  const TemporaryFolder folder;
  EXPECT_PITH_ERROR(open_checkpoint(folder.file("missing")), ErrorKind::kIo, "cannot open");
  EXPECT_PITH_ERROR(open_checkpoint(folder.path()), ErrorKind::kCorrupt, "no *.safetensors");
  EXPECT_PITH_ERROR(open_checkpoint("/dev/null"), ErrorKind::kIo, "not a regular file");
}

}  // namespace
}  // namespace pith
