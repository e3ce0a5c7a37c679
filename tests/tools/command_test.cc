// The command line as scripts see it: exit codes, keys of JSON, determinism.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

test::ProcessResult pith_run(std::vector<std::string> arguments,
                             const std::vector<std::string>& environment = {},
                             const std::string& input = "") {
  arguments.insert(arguments.begin(), PITH_PROGRAM);
  return test::run_process(arguments, environment, input);
}

void expect_keys(const std::string& json, const std::vector<std::string>& keys) {
  const Json j = parse_json(json, "output");
  for (const auto& key : keys) EXPECT_TRUE(j.contains(key)) << key << " is missing in " << json;
}

// ---- Without a real model ----

class Command : public testing::Test {
 protected:
  Command() {
    test::write_tiny_checkpoint(folder_.file("in"), test::tiny_config({.vocab = 640}), DType::kF16);
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("in/tokenizer.json"));
    write_file(folder_.file("text"), as_bytes("the cat sat on the mat. ", 24));
  }
  static std::span<const std::byte> as_bytes(const char* text, size_t size) {
    return std::as_bytes(std::span(text, size));
  }
  std::string in() const { return folder_.file("in"); }
  std::string out() const { return folder_.file("out.pith"); }

  test::TemporaryFolder folder_;
};

TEST_F(Command, says_why_it_cannot_run_on_a_gpu) {
  if (pith_run({"devices"}).out.find("sm_") != std::string::npos) GTEST_SKIP() << "there is one";
  const auto r = pith_run({"eval", "ppl", in(), "--text", folder_.file("text"), "--protocol",
                           "paragraph", "--device", "cuda"});
  EXPECT_EQ(r.exit_code, 8);
  EXPECT_NE(r.err.find("; use --device cpu"), std::string::npos) << r.err;
  EXPECT_EQ(pith_run({"bench", in(), "--device", "tpu"}).exit_code, 2);
}

TEST_F(Command, usage_errors_exit_with_2) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"compress"},
      {"quantize"},
      {"quantize", in()},
      {"quantize", in(), out(), "w4", "extra"},
      {"quantize", in(), out(), "w9"},
      {"quantize", in(), out(), "q4_k_m"},
      {"quantize", in(), out(), "w4", "--method", "magic"},
      {"quantize", in(), out(), "w4", "--no-such-option"},
      {"quantize", in(), out(), "w4", "-g", "33"},
      {"quantize", in(), out(), "w4", "-g", "-3"},
      {"quantize", in(), out(), "w4", "-g", "many"},
      {"quantize", in(), out(), "w4", "--sym", "--asym"},
      {"quantize", in(), out(), "w4", "--tensor-type", "down"},
      {"quantize", in(), out(), "w4", "--tensor-type", "=w4"},
      {"quantize", in(), out(), "w4", "--tensor-type", "down=w11"},
      {"quantize", in(), out(), "w4", "--threads", "0"},
      {"quantize", in(), out(), "w4", "--threads", "few"},
      {"quantize", in(), out(), "w4", "--calib", folder_.file("text")},  // too short
      {"quantize", in(), out(), "fp8", "-g", "64"},
      {"quantize", in(), out(), "w4", "--method", "awq+magic"},
      {"quantize", in(), out(), "w4", "--method", "rtn+gptq"},
      {"quantize", in(), out(), "w4", "--static-inputs"},
      {"quantize", in(), out(), "w4", "--target-size", "many"},
      {"quantize", in(), out(), "w4", "--target-size", "1M", "--calib", "none"},
      {"quantize", in(), out(), "w4", "--max-kl", "0"},
      {"quantize", in(), out(), "w4", "--memory", "-1"},
      {"eval"},
      {"eval", "ppl", in()},
      {"eval", "ppl", in(), "-f", folder_.file("text"), "--protocol", "magic"},
      {"eval", "ppl", in(), "-f", folder_.file("text"), "--protocol", "gptq-4096"},
      {"eval", "ppl", in(), "-f", folder_.file("text"), "--protocol", "gptq-0"},
      {"eval", "kl", in(), "-f", folder_.file("text")},
      {"run", in(), "-p", "a", "--temp", "-1"},
      {"run", in(), "-p", "a", "--top-p", "2"},
      {"run", in(), "-p", "a", "--cache-type", "q4"},
      {"run", in(), "-p", "a", "--kv", "k:int8,k:int4"},
      {"eval", "ppl", in(), "-f", folder_.file("text"), "--kv", "x:int8"},
      {"bench", in(), "--kv", "int5"},
      {"bench"},
      {"bench", in(), "--synthetic", "llama-1b"},
      {"bench", "--synthetic", "llama-3b"},
      {"bench", "--synthetic", "llama-1b", "--type", "int7"},
      {"chat", in()},  // no template
      {"inspect"},
      {"verify"},
  };
  for (const auto& c : cases) {
    const auto r = pith_run(c);
    std::string line;
    for (const auto& word : c) line += word + " ";
    EXPECT_EQ(r.exit_code, 2) << line << r.err;
    EXPECT_FALSE(r.err.empty()) << line;
    EXPECT_FALSE(file_exists(out())) << line;
    EXPECT_FALSE(file_exists(out() + ".work")) << line;
  }
  const auto r = pith_run({"inspect", in()}, {"PITH_CPU=abacus"});
  EXPECT_EQ(r.exit_code, 2);
  EXPECT_NE(r.err.find("PITH_CPU=abacus"), std::string::npos) << r.err;
}

TEST_F(Command, help_and_version_exit_with_0) {
  for (const std::vector<std::string>& c : {std::vector<std::string>{"--help"},
                                            {"--version"},
                                            {"quantize", "--help"},
                                            {"eval", "kl", "--help"}}) {
    const auto r = pith_run(c);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_FALSE(r.out.empty());
  }
}

TEST_F(Command, corrupt_inputs_exit_with_3) {
  write_file(folder_.file("garbage"),
             as_bytes("this is no model at all, whatever one may think of it", 53));
  write_file(folder_.file("in/model.safetensors"),
             as_bytes("\x10\0\0\0\0\0\0\0{\"a\":12345678901", 24));
  for (const auto& c : std::vector<std::vector<std::string>>{{"inspect", folder_.file("garbage")},
                                                             {"verify", folder_.file("garbage")},
                                                             {"inspect", in()},
                                                             {"quantize", in(), out()},
                                                             {"run", in(), "-p", "a"},
                                                             {"bench", in()}}) {
    const auto r = pith_run(c);
    EXPECT_EQ(r.exit_code, 3) << c[0] << " " << r.err;
    EXPECT_EQ(r.err.rfind("pith: ", 0), 0u) << r.err;
    EXPECT_FALSE(file_exists(out() + ".work"));
  }
}

TEST_F(Command, missing_files_exit_with_4) {
  for (const auto& c : std::vector<std::vector<std::string>>{
           {"inspect", folder_.file("none")},
           {"verify", folder_.file("none")},
           {"quantize", folder_.file("none"), out()},
           {"quantize", in(), folder_.file("no/such/folder/out.pith")},
           {"quantize", in(), out(), "w4", "--calib", folder_.file("none")},
           {"eval", "ppl", folder_.file("none"), "-f", folder_.file("text")},
           {"eval", "ppl", in(), "-f", folder_.file("none"), "--protocol", "paragraph"},
           {"eval", "kl", in(), "--base", folder_.file("none"), "-f", folder_.file("text")},
           {"run", folder_.file("none"), "-p", "a"},
           {"run", in(), "-f", folder_.file("none")}}) {
    const auto r = pith_run(c);
    EXPECT_EQ(r.exit_code, 4) << c[0] << " " << r.err;
    EXPECT_NE(r.err.find("no"), std::string::npos) << r.err;
  }
}

TEST_F(Command, a_dry_run_writes_nothing_and_tells_the_plan) {
  const auto before = folder_.files();
  const auto r = pith_run({"quantize", in(), out(), "w4", "--dry-run", "--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(folder_.files(), before);
  EXPECT_FALSE(file_exists(out() + ".work"));
  expect_keys(r.out,
              {"source", "output", "type", "method", "bits_per_weight", "planned_output_bytes",
               "planned_memory_bytes", "planned_disk_bytes", "linears"});
  const Json plan = parse_json(r.out, "plan");
  EXPECT_EQ(plan["linears"].size(), 2 + 3 * 7u);
  ASSERT_EQ(pith_run({"quantize", in(), out(), "w4", "-q"}).exit_code, 0);
  const auto size = static_cast<double>(std::filesystem::file_size(out()));
  EXPECT_NEAR(plan["planned_output_bytes"].get<double>(), size, 0.01 * size);
}

TEST_F(Command, mixed_precision_keeps_to_a_size_and_its_plan_can_be_used_again) {
  const std::string plan = folder_.file("plan.txt");
  const std::vector<std::string> common = {
      "quantize", in(),         out(), "w4",       "--method", "gptq",   "-q", "--calib",
      "self",     "--nsamples", "8",   "--seqlen", "48",       "--json", "-"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return pith_run(more);
  };
  const auto smallest = with({"--target-bpw", "1"});
  EXPECT_EQ(smallest.exit_code, 2) << "1 bit per weight cannot be had";
  const auto r = with({"--target-size", "90k", "--plan-out", plan});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const auto size = std::filesystem::file_size(out());
  EXPECT_LE(size, 90000u);
  EXPECT_GT(size, 60000u);
  const auto bytes = read_file(out(), 1 << 20);
  const std::string lines = read_text_file(plan, 1 << 20);
  EXPECT_NE(lines.find("layers.1.mlp.down="), std::string::npos) << lines;
  const auto again = with({"--tensor-type-file", plan});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(read_file(out(), 1 << 20), bytes);

  // Costs that were kept serve other sizes, and nothing but what they were measured for.
  const std::string costs = folder_.file("costs.json");
  ASSERT_EQ(with({"--target-size", "90k", "--costs", costs}).exit_code, 0);
  EXPECT_EQ(read_file(out(), 1 << 20), bytes);
  const std::string measured = read_text_file(costs, 1 << 20);
  const auto larger = with({"--target-size", "95k", "--costs", costs});
  ASSERT_EQ(larger.exit_code, 0) << larger.err;
  EXPECT_GT(std::filesystem::file_size(out()), size);
  EXPECT_EQ(read_text_file(costs, 1 << 20), measured);
  const auto others =
      with({"--target-size", "200k", "--costs", costs, "--candidates", "w4", "--candidates", "w8"});
  EXPECT_EQ(others.exit_code, 2);
  EXPECT_NE(others.err.find("remove it"), std::string::npos) << others.err;
  for (const auto& [from, to] : std::map<std::string, std::string>{
           {"\"int8-g64\"", "\"int9-g64\""}, {"\"kl\"", "\"cl\""}, {"layers.0", "layers.9"}}) {
    std::string broken = measured;
    broken.replace(broken.find(from), from.size(), to);
    write_file(costs, as_bytes(broken.data(), broken.size()));
    const auto refused = with({"--target-size", "90k", "--costs", costs});
    EXPECT_NE(refused.exit_code, 0) << to;
    EXPECT_NE(refused.err.find("costs.json"), std::string::npos) << refused.err;
  }

  const auto bpw = with({"--target-bpw", "4.5"});
  ASSERT_EQ(bpw.exit_code, 0) << bpw.err;
  EXPECT_LE(parse_json(bpw.out, "output")["bits_per_weight"].get<double>(), 4.5);
}

TEST_F(Command, a_divergence_that_cannot_be_had_is_a_usage_error) {
  const auto r = pith_run({"quantize", in(), out(), "w4", "-q", "--calib", "self", "--nsamples",
                           "12", "--seqlen", "48", "--max-kl", "0.00001", "--candidates", "w2"});
  EXPECT_EQ(r.exit_code, 2) << r.err;
  std::vector<std::string> arguments = {
      "quantize", in(),         out(), "w4",       "-q", "--calib",  "self", "--json",
      "-",        "--nsamples", "12",  "--seqlen", "48", "--max-kl", "0.02", "--restart"};
  const auto reached = pith_run(arguments);
  ASSERT_EQ(reached.exit_code, 0) << reached.err;
  EXPECT_LT(parse_json(reached.out, "one object, of the last try")["kl"].get<double>(), 0.03);
  std::filesystem::remove(out());
  arguments.push_back("--dry-run");
  const auto plan = pith_run(arguments);
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_FALSE(std::filesystem::exists(out()));
}

TEST_F(Command, types_with_rounded_inputs_run_and_say_so) {
  for (const char* type : {"w8a8", "w4a8", "fp8_dynamic", "fp8_block", "W8A8"}) {
    const auto r = pith_run({"quantize", in(), out(), type, "-q"});
    ASSERT_EQ(r.exit_code, 0) << type << ": " << r.err;
    const auto kl = pith_run({"inspect", out(), "--json", "-"});
    ASSERT_EQ(kl.exit_code, 0) << kl.err;
    EXPECT_NE(kl.out.find("inputs"), std::string::npos) << type;
  }
  // Methods that need a text have the model write it.
  for (const char* method : {"smoothquant", "awq", "gptq"}) {
    const auto r = pith_run({"quantize", in(), out(), "w8a8", "--method", method, "-q",
                             "--nsamples", "8", "--seqlen", "48", "--dry-run", "--json", "-"});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(parse_json(r.out, "output")["calibration_tokens"].get<int>(), 8 * 48) << method;
  }
  const auto fixed =
      pith_run({"quantize", in(), out(), "w8a8", "--method", "smoothquant", "--static-inputs", "-q",
                "--calib", "self", "--nsamples", "8", "--seqlen", "48"});
  EXPECT_EQ(fixed.exit_code, 0) << fixed.err;
}

TEST_F(Command, a_rotated_model_answers_as_before_and_its_recipe_says_what_it_is) {
  ASSERT_EQ(pith_run({"quantize", in(), out(), "f32", "--embedding-type", "f32", "--head-type",
                      "f32", "--rotate", "--seed", "3", "-q"})
                .exit_code,
            0);
  const auto inspected = pith_run({"inspect", out(), "--json", "-"});
  EXPECT_NE(inspected.out.find("- rotate:"), std::string::npos) << inspected.out;
  EXPECT_NE(inspected.out.find("seed: 3"), std::string::npos) << inspected.out;
  std::string text;
  for (int i = 0; i < 40; ++i) text += "the cat sat on the mat. ";
  write_file(folder_.file("text"), as_bytes(text.data(), text.size()));
  const auto r = pith_run({"eval", "kl", out(), "--base", in(), "-f", folder_.file("text"),
                           "--protocol", "gptq-64", "--no-noise-floor", "-q", "--json", "-"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_LT(parse_json(r.out, "kl")["kl_mean"].get<double>(), 1e-6);
}

TEST_F(Command, inspect_has_the_keys_that_others_rely_on) {
  ASSERT_EQ(pith_run({"quantize", in(), out(), "w4", "--method", "rtn", "-q"}).exit_code, 0);
  for (const auto& model : {in(), out()}) {
    const auto r = pith_run({"inspect", model, "--json", "-"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    expect_keys(r.out, {"file_bytes", "parameters", "bits_per_weight", "architecture", "layers"});
    EXPECT_EQ(parse_json(r.out, "inspect")["layers"], 3);
    EXPECT_EQ(parse_json(r.out, "inspect")["architecture"], "llama");
  }
  EXPECT_EQ(parse_json(pith_run({"inspect", out(), "--json", "-"}).out, "inspect")["file_bytes"],
            std::filesystem::file_size(out()));
}

TEST_F(Command, json_goes_to_a_file_where_asked) {
  const auto r = pith_run({"inspect", in(), "--json", folder_.file("report.json")});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.out.find("architecture"), std::string::npos);  // people get their text as well
  expect_keys(read_text_file(folder_.file("report.json"), 1 << 20), {"parameters"});
}

TEST_F(Command, verify_accepts_what_quantize_wrote_and_catches_every_flipped_byte) {
  for (const char* type : {"w4", "w3", "nf4", "fp8", "f16"}) {
    ASSERT_EQ(pith_run({"quantize", in(), out(), type, "-q"}).exit_code, 0) << type;
    const auto r = pith_run({"verify", out(), "-q"});
    EXPECT_EQ(r.exit_code, 0) << type << r.err;
  }
  ASSERT_EQ(pith_run({"quantize", in(), out(), "w4", "--method", "rtn", "-q"}).exit_code, 0);
  const std::string whole = read_text_file(out(), 1 << 24);
  const std::string damaged = folder_.file("damaged.pith");
  for (size_t at = 0; at < whole.size(); at += at < 64 ? 7 : whole.size() / 40) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    write_file(damaged, std::as_bytes(std::span(bytes)));
    const auto r = pith_run({"verify", damaged, "-q"});
    EXPECT_EQ(r.exit_code, 3) << "byte " << at << r.err;
  }
  for (const size_t length :
       {size_t{0}, size_t{10}, size_t{64}, whole.size() / 2, whole.size() - 1}) {
    write_file(damaged, std::as_bytes(std::span(whole).first(length)));
    EXPECT_EQ(pith_run({"verify", damaged, "-q"}).exit_code, 3) << "cut at " << length;
  }
  // Loading checks the planes too, unless told not to.
  std::string bytes = whole;
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(damaged, std::as_bytes(std::span(bytes)));
  EXPECT_EQ(pith_run({"run", damaged, "-p", "the", "-n", "2", "-q"}).exit_code, 3);
  EXPECT_EQ(pith_run({"run", damaged, "-p", "the", "-n", "2", "-q", "--no-verify"}).exit_code, 0);
}

TEST_F(Command, standard_output_that_cannot_be_written_is_an_error) {
  if (!file_exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const auto r = test::run_process(
      {"/bin/sh", "-c", std::string(PITH_PROGRAM) + " inspect " + in() + " > /dev/full"});
  EXPECT_EQ(r.exit_code, 4) << r.err;
}

// ---- With a model that speaks ----

class Speaking : public testing::Test {
 protected:
  void SetUp() override {
    PITH_SHARED_OR_SKIP(model, "tinystories-656K/bf16");
    PITH_SHARED_OR_SKIP(text, "text/TinyStories-valid-30k.txt");
    model_ = model;
    text_ = text;
  }
  std::string story(std::vector<std::string> more) {
    std::vector<std::string> c = {"run", model_, "-p", "Once upon a time", "-q", "-n", "60"};
    c.insert(c.end(), more.begin(), more.end());
    const auto r = pith_run(c);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.out;
  }

  std::string model_, text_;
};

TEST_F(Speaking, greedy_text_is_the_same_twice_and_for_any_number_of_threads) {
  const std::string once = story({"--temp", "0", "-t", "1"});
  EXPECT_EQ(once.rfind("Once upon a time", 0), 0u) << once;
  EXPECT_GT(once.size(), 100u);
  EXPECT_EQ(story({"--temp", "0", "-t", "1"}), once);
  EXPECT_EQ(story({"--temp", "0", "-t", "3"}), once);
}

TEST_F(Speaking, a_seed_gives_the_same_text_and_another_seed_another) {
  const std::string seven = story({"--temp", "1", "--seed", "7"});
  EXPECT_EQ(story({"--temp", "1", "--seed", "7", "-t", "1"}), seven);
  EXPECT_NE(story({"--temp", "1", "--seed", "8"}), seven);
}

TEST_F(Speaking, a_stop_text_ends_the_answer_and_is_never_shown) {
  const std::string whole = story({"--temp", "0"});
  for (const std::string stop : {".", " was", "She", "little girl", "ed "}) {
    const size_t at = whole.find(stop, 16);
    const std::string cut = story({"--temp", "0", "--stop", stop});
    EXPECT_EQ(cut.find(stop, 16), std::string::npos) << cut;
    if (at != std::string::npos) {
      EXPECT_EQ(cut, whole.substr(0, at) + "\n") << stop;
    }
  }
  // The first of two counts.
  EXPECT_EQ(story({"--temp", "0", "-r", "zzz", "-r", "."}), story({"--temp", "0", "-r", "."}));
}

TEST_F(Speaking, eval_ppl_has_the_keys_that_others_rely_on) {
  const auto r = pith_run({"eval", "ppl", model_, "-f", text_, "--protocol", "paragraph",
                           "--max-windows", "8", "-q", "--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  expect_keys(r.out, {"perplexity", "nll", "tokens", "protocol", "cache"});
  EXPECT_EQ(parse_json(r.out, "ppl")["protocol"], "paragraph-512");
}

TEST_F(Speaking, eval_kl_has_the_keys_that_others_rely_on) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(pith_run({"quantize", model_, folder.file("out.pith"), "w3", "--method", "rtn", "-q"})
                .exit_code,
            0);
  const auto r = pith_run({"eval", "kl", folder.file("out.pith"), "--base", model_, "-f", text_,
                           "--protocol", "paragraph", "--max-windows", "8", "-q", "--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  expect_keys(r.out,
              {"kl_mean", "kl_standard_error", "kl_median", "kl_p99", "kl_p99_standard_error",
               "kl_p999", "kl_p999_standard_error", "kl_max", "same_top", "ppl_ratio", "tokens"});
  EXPECT_GT(parse_json(r.out, "kl")["kl_mean"].get<double>(), 0);
}

TEST_F(Speaking, a_narrow_cache_costs_the_more_the_narrower_it_is) {
  double last = 0;
  for (const std::string kv : {"f32", "f16", "int8", "int4"}) {
    const auto r =
        pith_run({"eval", "kl", model_, "--base", model_, "-f", text_, "--protocol", "paragraph",
                  "--max-windows", "8", "--no-noise-floor", "-q", "--json", "-", "--kv", kv});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const Json j = parse_json(r.out, "kl");
    EXPECT_EQ(j["cache"], kv);
    const double kl = j["kl_mean"];
    if (kv == "f32") {
      EXPECT_EQ(kl, 0);
    } else {
      EXPECT_GT(kl, last) << kv;
    }
    last = kl;
  }
  EXPECT_EQ(story({"--temp", "0", "--kv", "f16"}), story({"--temp", "0"}));
  EXPECT_EQ(story({"--temp", "0", "--kv", "k:int8,v:int4"}).rfind("Once upon a time", 0), 0u);
}

TEST_F(Speaking, bench_has_the_keys_that_others_rely_on) {
  const auto r =
      pith_run({"bench", model_, "-p", "32", "-n", "8", "--repetitions", "1", "-q", "--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  expect_keys(r.out,
              {"prefill_tokens_per_s", "decode_tokens_per_s", "weight_bytes_per_token",
               "read_bytes_per_s", "decode_bandwidth_fraction", "cache", "cache_bytes_per_token",
               "int8_peak_ops_per_s", "f32_peak_ops_per_s", "prefill_ops_per_s"});
}

TEST_F(Speaking, calibration_text_is_recorded_and_evaluation_on_it_warns) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(pith_run({"quantize", model_, folder.file("out.pith"), "w4", "--calib", text_,
                      "--nsamples", "2", "--seqlen", "64", "-q"})
                .exit_code,
            0);
  const auto r = pith_run({"eval", "ppl", folder.file("out.pith"), "-f", text_, "--protocol",
                           "paragraph", "--max-windows", "2", "-q"});
  EXPECT_NE(r.err.find("calibrated on"), std::string::npos) << r.err;
}

TEST_F(Speaking, an_interrupt_while_it_speaks_ends_with_130) {
  test::Process p({PITH_PROGRAM, "eval", "ppl", model_, "-f", text_, "--protocol", "paragraph",
                   "-t", "1", "-q"},
                  {"PITH_CPU=scalar"});
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  p.signal(SIGINT);
  const auto r = p.wait();
  EXPECT_TRUE(r.exit_code == 130 || r.exit_code == 0) << r.exit_code << r.err;
}

}  // namespace
}  // namespace pith
