// Values of a config.json that were passed over in silence, or refused where transformers reads
// them: each is an error that names key, what it should be and what it is, or taken as transformers
// takes it, with a note.

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

// A tiny model whose config.json has these changes; its tensors are those of the unchanged one.
std::unique_ptr<ModelSource> open_changed(const std::string& config, const std::string& changes) {
  const Json before = parse_json(config, "config");
  Json after = before;
  after.update(parse_json(changes, "changes"));
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.path(), after.dump(), test::tiny_tensors(before));
  return open_model(folder.path());
}
std::unique_ptr<ModelSource> open_changed(const std::string& changes) {
  return open_changed(test::tiny_config({}), changes);
}

struct Case {
  const char *changes, *text;
};

TEST(ConfigValues, that_are_not_finite_are_named_as_the_file_has_them) {
  const std::string config = test::tiny_config({});
  for (const Case& c :
       {Case{"\"rope_theta\": Infinity}",
             "\"rope_theta\" should be a positive "
             "number, it is Infinity"},
        Case{"\"rope_theta\": 1e999}", "it is Infinity"}, Case{"\"rope_theta\": NaN}", "it is NaN"},
        Case{"\"rms_norm_eps\": -Infinity}", "it is -Infinity"}}) {
    const test::TemporaryFolder folder;
    test::write_tiny_checkpoint(folder.path(), config);
    // The last of two values counts.
    const std::string text = config.substr(0, config.rfind('}')) + ", " + c.changes;
    write_file(folder.file("config.json"), std::as_bytes(std::span(text)));
    EXPECT_PITH_ERROR(open_model(folder.path()), ErrorKind::kCorrupt, c.text);
  }
}

TEST(ConfigValues, of_a_wrong_type_are_refused_by_name) {
  const Case kCases[] = {
      {R"({"rope_scaling": 5})", "\"rope_scaling\" should be an object, it is 5"},
      {R"({"rope_scaling": "x"})", "\"rope_scaling\" should be an object, it is \"x\""},
      {R"({"rope_scaling": []})", "\"rope_scaling\" should be an object, it is an empty list"},
      {R"({"rope_parameters": true})", "\"rope_parameters\" should be an object, it is true"},
      {R"({"rope_scaling": {"rope_type": 7}})", "\"rope_type\" should be a string, it is 7"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": "4"}})", "\"factor\" should be"},
      {R"({"rope_theta": "x"})", "\"rope_theta\" should be a positive number, it is \"x\""},
      {R"({"rope_theta": null})", "\"rope_theta\" should be a positive number, it is null"},
      {R"({"rope_theta": -1})", "\"rope_theta\" should be a positive number, it is -1"},
      {R"({"bos_token_id": "x"})", "\"bos_token_id\" should be an integer"},
      {R"({"bos_token_id": true})", "\"bos_token_id\" should be an integer"},
      {R"({"eos_token_id": 1.5})", "\"eos_token_id\" should be an integer or a list"},
      {R"({"eos_token_id": [1, null]})", "\"eos_token_id\" should be an integer or a list"},
      {R"({"num_hidden_layers": -1})", "\"num_hidden_layers\" should be an integer of 0 or more"},
      {R"({"num_hidden_layers": 2.0})", "\"num_hidden_layers\" should be"},
      {R"({"num_hidden_layers": 0})", "\"num_hidden_layers\" is 0, and there are"},
      {R"({"hidden_size": "64"})", "\"hidden_size\" should be a positive integer, it is \"64\""},
      {R"({"hidden_size": true})", "\"hidden_size\" should be a positive integer, it is true"},
      {R"({"vocab_size": null})", "\"vocab_size\" should be a positive integer, it is null"},
      {R"({"rms_norm_eps": "1e-5"})", "\"rms_norm_eps\" should be"},
      {R"({"tie_word_embeddings": "yes"})", "\"tie_word_embeddings\" should be true or false"},
      {R"({"attention_bias": 1})", "\"attention_bias\" should be true or false, it is 1"},
      {R"({"hidden_act": 3})", "\"hidden_act\" should be a string, it is 3"},
      {R"({"hidden_act": "\u001b[2J"})", "activation \"\\x1b[2J\" is not supported"},
      {R"({"layer_types": ["full_attention"]})", "1 layer_types for 3 layers"},
      {R"({"layer_types": ["full_attention", "linear_attention", "full_attention"]})",
       "layers of type \"linear_attention\""},
      {R"({"attn_logit_softcapping": 50.0})", "\"attn_logit_softcapping\" is 50.0"},
      {R"({"use_qk_norm": true})", "\"use_qk_norm\" is true"},
      {R"({"logit_scale": 0.25})", "\"logit_scale\" is 0.25"},
      {R"({"per_layer_config": {"0": {}}})", "\"per_layer_config\" is an object"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.changes);
    try {
      open_changed(c.changes);
      ADD_FAILURE() << "taken";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(c.text), std::string::npos) << e.what();
    }
  }
}

TEST(ConfigValues, that_multiply_by_nothing_are_refused) {
  EXPECT_PITH_ERROR(open_changed(test::tiny_latent_config({}), R"({"routed_scaling_factor": 0})"),
                    ErrorKind::kCorrupt,
                    "\"routed_scaling_factor\" should be a positive number, it is 0");
}

TEST(ConfigValues, that_do_nothing_are_taken) {
  for (const char* const changes :
       {R"({"attn_logit_softcapping": null, "use_qk_norm": false, "logit_scale": 1.0})",
        R"({"rope_scaling": {}, "rope_parameters": null})", R"({"attention_bias": null})",
        R"({"rms_norm_eps": 0, "rope_theta": 10000})", R"({"eos_token_id": []})"}) {
    SCOPED_TRACE(changes);
    EXPECT_TRUE(open_changed(changes)->notes().empty());
  }
}

TEST(ConfigValues, ids_outside_of_the_vocabulary_are_left_out_with_a_note) {
  const auto source = open_changed(R"({"bos_token_id": -1, "eos_token_id": [-1, 5, 96, 5]})");
  EXPECT_EQ(source->spec().bos_token(), -1);
  ASSERT_EQ(source->spec().stop_tokens_size(), 1);
  EXPECT_EQ(source->spec().stop_tokens(0), 5);
  EXPECT_EQ(source->notes(),
            (std::vector<std::string>{
                "config.json: bos_token_id -1 is not in the vocabulary of 96: ignored",
                "config.json: eos_token_id -1 is not in the vocabulary of 96: ignored",
                "config.json: eos_token_id 96 is not in the vocabulary of 96: ignored"}));
}

TEST(ConfigValues, a_context_that_is_not_named_is_that_of_the_class) {
  for (const bool null : {false, true}) {
    Json config = parse_json(test::tiny_config({}), "config");
    config["max_position_embeddings"] = nullptr;
    if (!null) config.erase("max_position_embeddings");
    const test::TemporaryFolder folder;
    test::write_tiny_checkpoint(folder.path(), config.dump());
    const auto source = open_model(folder.path());
    EXPECT_EQ(source->spec().context(), 2048u);
    ASSERT_EQ(source->notes().size(), 1u);
    EXPECT_NE(source->notes()[0].find("no max_position_embeddings: 2048"), std::string::npos);
  }
}

TEST(ConfigValues, fewer_layers_than_there_are_is_said) {
  const auto source = open_changed(R"({"num_hidden_layers": 2})");
  EXPECT_EQ(source->spec().layers_size(), 2);
  ASSERT_EQ(source->notes().size(), 1u);
  EXPECT_EQ(source->notes()[0], "9 tensors of further layers are not used: num_hidden_layers is 2");
}

// The first rows of a larger tensor were taken for the whole of it.
TEST(ConfigValues, that_need_less_than_a_tensor_holds_are_refused) {
  for (const char* const changes : {R"({"num_key_value_heads": 1})", R"({"vocab_size": 95})",
                                    R"({"intermediate_size": 100})"}) {
    SCOPED_TRACE(changes);
    EXPECT_THROW(open_changed(changes), Error);
  }
}

}  // namespace
}  // namespace pith
