// pith run: one prompt to text, or a file of prompts to JSON lines.
#include <fmt/format.h>

#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "formats/text_input.h"
#include "formats/text_lines.h"
#include "tools/generation.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr uint64_t kMaxPromptBytes = uint64_t{1} << 26;

struct Options : GenerationOptions {
  std::string prompt, prompt_file, prompts, output = "-";
  bool prompt_given = false;
  bool parse_special = false, chat = false;

  bool chats() const { return chat || !system.empty(); }
};

bool show(const std::string& piece) {
  print_out(piece);
  flush_out();
  return !interrupt().cancelled();
}

// Removes the line end that a shell puts after the last line of a piped prompt.
std::string without_last_line_end(std::string text) {
  if (text.ends_with("\n")) text.pop_back();
  if (text.ends_with("\r")) text.pop_back();
  return text;
}

std::string read_prompt(const Options& o) {
  if (!o.prompt_file.empty()) return read_text_input(o.prompt_file, kMaxPromptBytes, interrupt());
  if (o.prompt_given && o.prompt != "-") return o.prompt;
  if (o.prompt_given || !is_terminal(0))
    return without_last_line_end(read_text_input("-", kMaxPromptBytes, interrupt()));
  return "";
}

// A model that answers one prompt or many.
class Speaker {
 public:
  explicit Speaker(const Options& o)
      : o_(o),
        source_(open_model_for(o)),
        tokenizer_(load_tokenizer_for(*source_)),
        context_(o.context_of(*source_)) {
    if (o.chats()) format_.emplace(chat_format_of(*source_, *tokenizer_));
  }

  // Error(kUsage) where they do not fit; weights are not loaded for it.
  std::vector<int32_t> tokens_of(const std::string& prompt) const {
    std::vector<ChatMessage> messages;
    if (!o_.system.empty()) messages.push_back({"system", o_.system});
    messages.push_back({"user", prompt});
    return o_.chats() ? tokens_of(messages)
                      : checked(tokenizer_->encode(
                            prompt, {.add_special = true, .parse_special = o_.parse_special}));
  }
  std::vector<int32_t> tokens_of(const std::vector<ChatMessage>& messages) const {
    if (!format_) fail(ErrorKind::kUsage, "messages need --chat");
    return checked(format_->encode(messages));
  }

  // The weights, and memory for the context.
  void load() {
    if (engine_) return;
    engine_ = std::make_unique<Engine>(*source_, o_.engine);
    print_memory(engine_->memory(), o_.quiet);
  }

  GenerateResult speak(const std::vector<int32_t>& ids, FunctionRef<bool(const std::string&)> to) {
    load();
    engine_->rewind(0);
    GenerateOptions options = o_.generate;
    options.continues_prompt = !o_.chats();
    return engine_->generate(*tokenizer_, ids, options, to);
  }

  void warn() const {
    if (engine_) warn_of_fallbacks(engine_->executor());
  }

 private:
  std::vector<int32_t> checked(std::vector<int32_t> ids) const {
    if (ids.empty()) {
      fail(ErrorKind::kUsage,
           "the prompt has no tokens, and the model has no token to begin with: give one by -p");
    }
    check_prompt_length(ids.size(), context_, *source_);
    return ids;
  }

  const Options& o_;
  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatFormat> format_;
  std::unique_ptr<Engine> engine_;
  int64_t context_;
};

void run_one(const Options& o) {
  const std::string prompt = read_prompt(o);
  Speaker speaker(o);
  const auto ids = speaker.tokens_of(prompt);
  if (prompt.empty() && !o.quiet && !o.chats())
    tell("no prompt: the text begins where the model begins (-p, -f or standard input)\n");
  speaker.load();
  if (o.prints() && !o.chats()) show(prompt);
  const GenerateResult r = speaker.speak(ids, [&](const std::string& piece) {
    return o.prints() ? show(piece) : !interrupt().cancelled();
  });
  if (o.prints()) say("\n");
  speaker.warn();
  o.write_json(to_json(o, r));
  if (!o.quiet) {
    tell("{}{}\n", statistics(r),
         o.random_seed ? fmt::format(", seed {}", o.generate.sampling.seed) : "");
  }
  if (r.finish == "cancelled") interrupt().check();
}

// ---- Many prompts ----

struct Question {
  std::string prompt;
  std::vector<ChatMessage> messages;  // in place of the prompt, where there are any
};

// A prompt a line, or JSON objects with "prompt" or "messages". Lines without text are left out.
class Questions {
 public:
  explicit Questions(const std::string& path)
      : path_(path), lines_(path, kMaxPromptBytes, interrupt()) {}

  // The next, as soon as its line is there; false where there is none.
  bool next(Question* q) {
    for (std::string line; lines_.next(&line);) {
      ++number_;
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (!json_) json_ = is_object(line);
      *q = *json_ ? of_json(line) : Question{line, {}};
      return true;
    }
    return false;
  }

 private:
  // {"..., with blanks anywhere.
  static bool is_object(const std::string& line) {
    const size_t brace = line.find_first_not_of(" \t");
    const size_t quote = line.find_first_not_of(" \t", brace + 1);
    return line[brace] == '{' && quote != line.npos && line[quote] == '"';
  }
  Question of_json(const std::string& line) const {
    const std::string name = fmt::format("{}: line {}", path_, number_);
    const Json j = parse_json(line, name);
    if (j.is_object() && j.contains("messages")) return {"", messages_from(j, name)};
    return {json_string(j, "prompt", name), {}};
  }

  const std::string path_;
  TextLines lines_;
  std::optional<bool> json_;
  int64_t number_ = 0;
};

// Where the answers go: standard output and other open descriptors line by line, a regular file at
// once when all is done, any other (a named pipe) likewise.
class Answers {
 public:
  explicit Answers(const std::string& path) : path_(path), out_(is_standard_output(path)) {
    check_side_file(path);
    if (out_) return;
    const OutputPath to = resolve_output(path);
    descriptor_ = to.descriptor >= 0;
    if (!to.special) file_.emplace(path);
  }
  void add(const std::string& line) {
    const auto bytes = std::as_bytes(std::span(line));
    if (out_) {
      print_raw(line);
      flush_out();
    } else if (file_) {
      file_->append(bytes);
    } else if (descriptor_) {
      write_file(path_, bytes, interrupt());
    } else {
      lines_ += line;
    }
  }
  void finish() {
    if (file_) file_->commit();
    if (!lines_.empty()) write_file(path_, std::as_bytes(std::span(lines_)), interrupt());
  }

 private:
  const std::string path_;
  const bool out_;
  bool descriptor_ = false;
  std::optional<NewFile> file_;
  std::string lines_;
};

void run_many(const Options& o) {
  if (!o.prints() && is_standard_output(o.output))
    fail(ErrorKind::kUsage, "--json - and --output - would write into each other");
  // A file is checked to its end before the first answer; of what arrives bit by bit, each prompt
  // is answered when it is there.
  const bool whole = is_regular_file(o.prompts);
  Questions questions(o.prompts);
  std::vector<Question> known;
  for (Question q; whole && questions.next(&q);) known.push_back(std::move(q));
  const auto no_prompt = [&] {
    fail(ErrorKind::kUsage, "{}: there is no prompt in it", o.prompts);
  };
  if (whole && known.empty()) no_prompt();
  Answers answers(o.output);
  Speaker speaker(o);
  if (!whole) speaker.load();
  TerminalProgress progress(o.quiet);
  if (whole) progress.begin("prompts", std::ssize(known));
  int64_t done = 0, failed = 0, tokens = 0;
  std::optional<Error> broken;  // what ended the prompts
  const auto next = [&](Question* q) {
    try {
      if (!whole) return questions.next(q);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kCancelled) broken = e;
      return false;
    }
    if (done == std::ssize(known)) return false;
    *q = known[static_cast<size_t>(done)];
    return true;
  };
  for (Question q; next(&q);) {
    Json line = {{"index", done}};
    if (q.messages.empty()) line["prompt"] = q.prompt;
    try {
      const auto ids =
          q.messages.empty() ? speaker.tokens_of(q.prompt) : speaker.tokens_of(q.messages);
      const GenerateResult r =
          speaker.speak(ids, [](const std::string&) { return !interrupt().cancelled(); });
      if (interrupt().cancelled()) break;
      line.update(to_json(o, r));
      tokens += static_cast<int64_t>(r.tokens.size());
    } catch (const Error& e) {
      if (e.kind() == ErrorKind::kCancelled) break;
      if (e.kind() != ErrorKind::kUsage && e.kind() != ErrorKind::kCorrupt) {
        broken = e;
        break;
      }
      line["error"] = {{"kind", kind_name(e.kind())}, {"message", e.what()}};
      ++failed;
    }
    answers.add(json_text(line, -1) + "\n");
    ++done;
    if (whole) progress.advance(done, "");
  }
  progress.end();
  answers.finish();
  speaker.warn();
  o.write_json({{"model", o.model},
                {"prompts", whole ? std::ssize(known) : done},
                {"answered", done - failed},
                {"failed", failed},
                {"seed", o.generate.sampling.seed},
                {"generated_tokens", tokens}});
  if (interrupt().cancelled()) {
    fail(ErrorKind::kCancelled, "interrupted: {}{} prompts are answered", done,
         whole ? fmt::format(" of {}", known.size()) : "");
  }
  if (broken) throw Error(*broken);
  if (done == 0) no_prompt();
  if (failed > 0) {
    fail(ErrorKind::kUsage, "{} of {} could not be answered; see \"error\" in the output", failed,
         counted(done, "prompt"));
  }
}

}  // namespace

void add_run(CLI::App& app) {
  auto* c = app.add_subcommand("run", "continue a text, or answer prompts");
  auto o = std::make_shared<Options>();
  constexpr const char* kPrompt = "Prompt";
  auto* prompt = c->add_option("-p,--prompt", o->prompt,
                               "what to continue; - or no prompt at all: standard input")
                     ->group(kPrompt);
  auto* file = c->add_option("-f,--file", o->prompt_file,
                             "a file with the prompt, as it is; - is standard input")
                   ->type_name("FILE")
                   ->group(kPrompt)
                   ->excludes(prompt);
  c->add_option("--prompts", o->prompts,
                "many prompts: one a line, or JSON lines with \"prompt\" or \"messages\"")
      ->type_name("FILE")
      ->group(kPrompt)
      ->excludes(prompt)
      ->excludes(file);
  c->add_option("--output,--json-lines", o->output,
                "with --prompts: where the answers go, a JSON object a line; - is standard output")
      ->type_name("FILE")
      ->group(kPrompt);
  c->add_flag("--chat", o->chat, "apply the model's chat template, and show the answer alone")
      ->group(kPrompt);
  c->add_option("--system", o->system, "-sys: the system message; goes with --chat")
      ->type_name("TEXT")
      ->group(kPrompt);
  c->add_flag("--special", o->parse_special,
              "let text of the prompt become special tokens, as in <|im_start|>")
      ->group(kPrompt);
  o->add_to(*c);
  c->callback([o, prompt, c] {
    if (c->count("--output") > 0 && o->prompts.empty())
      fail(ErrorKind::kUsage, "--output goes with --prompts");
    if (o->parse_special && o->chats())
      fail(ErrorKind::kUsage, "--special does not go with --chat: the template has special tokens");
    o->prompt_given = prompt->count() > 0;
    o->prepare(*c);
    o->prompts.empty() ? run_one(*o) : run_many(*o);
  });
}

}  // namespace pith::tools
