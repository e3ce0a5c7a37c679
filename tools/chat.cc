// pith chat: a conversation with an instruction model.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>

#include "core/error.h"
#include "core/file.h"
#include "core/nearest.h"
#include "tools/arguments.h"
#include "tools/generation.h"
#include "tools/interrupt.h"
#include "tools/line_editor.h"
#include "tools/outputs.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr const char* kHelp =
    "  /help           this list\n"
    "  /clear          forget the conversation, not the system message\n"
    "  /system TEXT    set the system message; without TEXT: show it\n"
    "  /save FILE      write the conversation as JSON\n"
    "  /load FILE      go on with a conversation that was saved\n"
    "  /regen          answer the last message again\n"
    "  /set NAME N     a setting of the answers; without N: show it; without NAME: show all\n"
    "  /exit           leave, as do /quit, /bye and Ctrl-D\n"
    "A message of several lines: paste it, put it between two lines \"\"\", or end lines by \\.\n"
    "A message that begins with a slash: write two. Ctrl-C stops an answer.\n";

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

class Chat {
 public:
  explicit Chat(GenerationOptions& o)
      : o_(o),
        source_(open_model_for(o)),
        tokenizer_(load_tokenizer_for(*source_)),
        format_(chat_format_of(*source_, *tokenizer_)),
        context_(o.context_of(*source_)),
        engine_(*source_, o.engine) {
    print_memory(engine_.memory(), o.quiet);
    if (!o.system.empty()) messages_.push_back({"system", o.system});
  }

  void talk() {
    if (lines_.is_terminal() && !o_.quiet)
      tell("{}: /help lists the commands, Ctrl-D leaves\n", one_line(o_.model));
    for (std::string message; !interrupt().cancelled() && read_message(&message);) {
      if (trimmed(message).empty()) continue;
      if (is_command(message)) {
        if (!obey(message)) break;
        continue;
      }
      if (message.starts_with("//")) message.erase(0, 1);
      answer(message);
    }
    warn_of_fallbacks(engine_.executor());
    o_.write_json({{"model", o_.model}, {"seed", o_.generate.sampling.seed}, {"turns", turns_}});
    interrupt().check();
  }

 private:
  // ---- Reading ----

  // One message, of as many lines as it has; false at the end of the conversation.
  bool read_message(std::string* message) {
    message->clear();
    bool quoted = false, more = false;
    for (std::string line;;) {
      switch (lines_.read(more || quoted ? ". " : "> ", &line)) {
        case LineEditor::Event::kEnd:
          if (quoted) warn("the message ended without a closing \"\"\"");
          return !message->empty();
        case LineEditor::Event::kInterrupted:
          if (!goes_on(line.empty() && message->empty())) return false;
          message->clear();
          quoted = more = false;
          continue;
        case LineEditor::Event::kTooLong:
          complain(fmt::format("a line of more than {} bytes was dropped", LineEditor::kMaxLine));
          message->clear();
          quoted = more = false;
          continue;
        case LineEditor::Event::kLine:
          leaving_ = false;
          break;
      }
      if (!quoted && !more && line.starts_with("\"\"\"")) {
        quoted = true;
        line.erase(0, 3);
        if (line.empty()) continue;
      }
      const bool closes = quoted && line.ends_with("\"\"\"");
      if (closes) line.resize(line.size() - 3);
      more = !quoted && line.ends_with("\\");
      if (more) line.pop_back();
      *message += line;
      if (message->size() > LineEditor::kMaxLine) {
        complain(fmt::format("a message of more than {} bytes was dropped", LineEditor::kMaxLine));
        message->clear();
        quoted = more = false;
        continue;
      }
      if (closes && message->ends_with("\n")) message->pop_back();
      if (closes || (!quoted && !more)) return true;
      *message += '\n';
    }
  }

  // After a signal. Ctrl-C at the prompt clears the line, and stops an answer or command; a second
  // one on an `empty` line, one without a terminal and other signals end the conversation.
  bool goes_on(bool empty) {
    if (interrupt().reason() != SIGINT || !lines_.is_terminal()) return false;
    if (empty && leaving_) return false;
    leaving_ = empty;
    if (empty) complain("Ctrl-C again, or Ctrl-D, leaves");
    interrupt().clear();
    return true;
  }

  static bool is_command(const std::string& message) {
    const bool one = message.find('\n') == std::string::npos;
    return one && ((message.starts_with("/") && !message.starts_with("//")) ||
                   trimmed(message) == "exit" || trimmed(message) == "quit");
  }

  void complain(const std::string& line) { tell("{}\n", line); }

  // ---- Commands ----

  // false: leave.
  bool obey(const std::string& line) {
    const std::string text = trimmed(line);
    const size_t blank = text.find_first_of(" \t");
    const std::string name = text.substr(0, blank);
    const std::string rest = blank == std::string::npos ? "" : trimmed(text.substr(blank));
    try {
      if (name == "exit" || name == "quit" || name == "/exit" || name == "/quit" || name == "/bye")
        return false;
      if (name == "/help" || name == "/?")
        tell("{}", kHelp);
      else if (name == "/clear" || name == "/reset")
        clear();
      else if (name == "/system")
        set_system(rest);
      else if (name == "/save")
        save(rest);
      else if (name == "/load")
        load(rest);
      else if (name == "/regen")
        regenerate();
      else if (name == "/set")
        set(rest);
      else
        unknown(name);
    } catch (const Error& e) {
      if (e.kind() == ErrorKind::kCancelled && !goes_on(false)) throw;
      complain(e.what());
    }
    return true;
  }

  void clear() {
    const auto n = static_cast<int64_t>(messages_.size() - first_turn());
    messages_.resize(first_turn());
    complain(fmt::format("{} forgotten{}", counted(n, "message"),
                         first_turn() == 1 ? "; the system message stays" : ""));
  }

  void unknown(const std::string& name) {
    const std::string meant = nearest(name, {"/help", "/clear", "/system", "/save", "/load",
                                             "/regen", "/set", "/exit", "/quit", "/bye"});
    complain(fmt::format("no command {}{}; /help lists them, // begins a message with a slash",
                         one_line(name), meant.empty() ? "" : "; did you mean " + meant + "?"));
  }

  void set_system(const std::string& text) {
    const bool has = first_turn() == 1;
    if (text.empty()) return complain(has ? messages_[0].content : "no system message");
    if (has)
      messages_[0].content = text;
    else
      messages_.insert(messages_.begin(), {"system", text});
    complain(has ? "the system message was replaced" : "the system message was set");
  }

  void save(const std::string& path) const {
    if (path.empty()) fail(ErrorKind::kUsage, "/save FILE");
    if (resolve_output(path).special)
      fail(ErrorKind::kIo, "{}: is not a regular file", one_line(path));
    require_not_of_model(path, o_.model, o_.tokenizer);
    Json list = Json::array();
    for (const auto& m : messages_) list.push_back({{"role", m.role}, {"content", m.content}});
    const std::string text = json_text(list, 2) + "\n";
    write_file(path, std::as_bytes(std::span(text)));
    tell("{} in {}\n", counted(std::ssize(messages_), "message"), one_line(path));
  }

  void load(const std::string& path) {
    if (path.empty()) fail(ErrorKind::kUsage, "/load FILE");
    const Json j = parse_json(read_text_file(path, uint64_t{64} << 20), path);
    const Json& list = j.is_object() && j.contains("messages") ? j["messages"] : j;
    if (!list.is_array()) fail(ErrorKind::kCorrupt, "{}: no list of messages", one_line(path));
    std::vector<ChatMessage> loaded;
    for (const Json& m : list) {
      loaded.push_back({json_string(m, "role", path), json_string(m, "content", path)});
      const auto& role = loaded.back().role;
      if (role != "user" && role != "assistant" && role != "system")
        fail(ErrorKind::kCorrupt, "{}: no role \"{}\"", one_line(path), one_line(role));
      if (role == "system" && loaded.size() > 1)
        fail(ErrorKind::kCorrupt, "{}: a system message comes first", one_line(path));
    }
    messages_ = std::move(loaded);
    tell("{} from {}\n", counted(std::ssize(messages_), "message"), one_line(path));
  }

  void regenerate() {
    const auto before = messages_;
    if (!messages_.empty() && messages_.back().role == "assistant") messages_.pop_back();
    if (messages_.empty() || messages_.back().role != "user")
      fail(ErrorKind::kUsage, "there is no message to answer again");
    const std::string last = messages_.back().content;
    messages_.pop_back();
    try {
      if (!answer(last)) messages_ = before;
    } catch (...) {
      messages_ = before;
      throw;
    }
  }

  // /set NAME N, by the names and ranges of the options.
  void set(const std::string& text) {
    const size_t blank = text.find_first_of(" \t=");
    std::string name = text.substr(0, blank);
    std::ranges::replace(name, '_', '-');
    name.erase(0, std::min(name.find_first_not_of('-'), name.size()));
    std::string value = blank == std::string::npos ? "" : trimmed(text.substr(blank + 1));
    if (value.starts_with("=")) value = trimmed(value.substr(1));  // "temp = 1"
    GenerateOptions changed = o_.generate;
    const auto all = settings_of(changed);
    if (text.empty()) {
      std::string line;
      for (const auto& s : all) line += fmt::format("{} {}  ", s.name(), s.text());
      return tell("{}seed {}\n", line, changed.sampling.seed);
    }
    const auto setting =
        std::ranges::find_if(all, [&](const Setting& s) { return s.has_name(name); });
    if (name == "seed" || name == "s") {
      bool random = false;
      if (!value.empty()) changed.sampling.seed = parse_seed(value, &random);
    } else if (setting == all.end()) {
      std::vector<std::string> names = {"seed"};
      for (const auto& s : all) names.push_back(s.name());
      const std::string meant = nearest(name, names);
      fail(ErrorKind::kUsage, "/set: no setting {}{}; there are: {}", one_line(name),
           meant.empty() ? "" : fmt::format("; did you mean {}?", meant), fmt::join(names, " "));
    } else if (!value.empty()) {
      assign(*setting, value);
    }
    changed.sampling.top_k = std::max<int64_t>(0, changed.sampling.top_k);
    check_sampling(changed.sampling);
    const bool is_seed = setting == all.end();
    if (is_seed && !value.empty()) answers_ = 0;  // the same seed, the same answers
    o_.generate = changed;
    tell("{} {}\n", is_seed ? "seed" : setting->name(),
         is_seed ? fmt::format("{}", changed.sampling.seed) : setting->text());
  }

  static void assign(const Setting& s, std::string value) {
    if (const std::string wrong = s.range()(value); !wrong.empty())
      fail(ErrorKind::kUsage, "{} {}", s.name(), one_line(wrong));
    const double number = std::strtod(value.c_str(), nullptr);
    if (auto* const whole = std::get_if<int64_t*>(&s.value)) {
      if (number != std::floor(number))
        fail(ErrorKind::kUsage, "{} {}: must be a whole number", s.name(), one_line(value));
      **whole = static_cast<int64_t>(number);
    } else {
      *std::get<double*>(s.value) = number;
    }
  }

  // ---- Answering ----

  size_t first_turn() const { return !messages_.empty() && messages_[0].role == "system" ? 1 : 0; }

  // The tokens of the conversation; the oldest turns are dropped until an answer fits into the
  // context after them. Error(kUsage) where the last message alone does not fit.
  std::vector<int32_t> fitting() {
    const int64_t least = std::clamp<int64_t>(context_ / 8, 1, 64);
    const auto reserved =
        o_.generate.max_tokens < 0 ? least : std::min(o_.generate.max_tokens, least);
    size_t dropped = 0;
    for (;;) {
      auto ids = format_.encode(messages_);
      const auto length = static_cast<int64_t>(ids.size());
      const size_t turns = messages_.size() - first_turn();
      if (length + reserved <= context_ || (turns < 3 && length < context_)) {
        if (dropped > 0) {
          tell(
              "warning: the context is full: the oldest {} messages of the conversation are "
              "forgotten\n",
              dropped);
        }
        return ids;
      }
      if (turns < 3) {
        fail(ErrorKind::kUsage,
             "the message is too long: with the chat template {} tokens, the context has {} "
             "(--ctx-size)",
             length, context_);
      }
      const auto begin = messages_.begin() + static_cast<std::ptrdiff_t>(first_turn());
      messages_.erase(begin, begin + 2);  // a message and its answer
      dropped += 2;
    }
  }

  // false: there is no answer, and the conversation is what it was.
  bool answer(const std::string& message) {
    const std::vector<ChatMessage> before = messages_;
    messages_.push_back({"user", message});
    try {
      answer_last();
      return true;
    } catch (const Error& e) {
      messages_ = before;
      if (e.kind() == ErrorKind::kCancelled) {  // while the message was read
        if (goes_on(false) && !o_.quiet) complain("stopped");
        return false;
      }
      seen_.resize(std::min(seen_.size(), static_cast<size_t>(engine_.position())));
      turns_.push_back({{"error", {{"kind", kind_name(e.kind())}, {"message", e.what()}}}});
      // Without a user at a terminal, who could rephrase it, only a message that is too long is
      // skipped.
      if (!lines_.is_terminal() && e.kind() != ErrorKind::kUsage) throw;
      complain(e.what());
      return false;
    }
  }

  void answer_last() {
    const auto ids = fitting();
    const auto common =
        std::min<std::ptrdiff_t>(std::ranges::mismatch(ids, seen_).in1 - ids.begin(),
                                 static_cast<std::ptrdiff_t>(ids.size()) - 1);
    engine_.rewind(common);
    seen_.assign(ids.begin(), ids.begin() + common);
    GenerateOptions options = o_.generate;
    options.sampling.seed += answers_++;  // no two answers draw the same numbers
    const GenerateResult r =
        engine_.generate(*tokenizer_, std::span(ids).subspan(static_cast<size_t>(common)), options,
                         [&](const std::string& piece) {
                           if (o_.prints()) {
                             print_out(piece);
                             flush_out();
                           }
                           return !interrupt().cancelled();
                         });
    if (o_.prints()) say("\n");
    seen_ = ids;
    seen_.insert(seen_.end(), r.tokens.begin(), r.tokens.end());
    seen_.resize(static_cast<size_t>(engine_.position()));
    messages_.push_back({"assistant", r.text});
    turns_.push_back(to_json(o_, r));
    turns_.back()["seed"] = options.sampling.seed;
    flush_out();
    if (!o_.quiet) tell_dimly(fmt::format("[{}]\n", statistics(r)));
    if (r.finish == "context") tell("warning: the context is full: the answer ends here\n");
    if (r.finish == "cancelled") goes_on(false);
  }

  GenerationOptions& o_;
  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ChatFormat format_;
  int64_t context_;
  Engine engine_;
  LineEditor lines_;
  std::vector<ChatMessage> messages_;
  std::vector<int32_t> seen_;  // tokens in the KV cache
  uint64_t answers_ = 0;
  bool leaving_ = false;  // Ctrl-C on an empty line was the last that was typed
  Json turns_ = Json::array();
};

}  // namespace

void add_chat(CLI::App& app) {
  auto* c = app.add_subcommand(
      "chat", "talk with an instruction model; /help in the conversation lists its commands");
  auto o = std::make_shared<GenerationOptions>();
  o->generate.max_tokens = 512;
  o->generate.sampling.temperature = 0.7;
  o->generate.sampling.top_p = 0.95;
  o->seed = "-1";
  c->add_option("--system", o->system, "-sys: the system message")
      ->type_name("TEXT")
      ->group("Prompt");
  o->add_to(*c);
  c->callback([o, c] {
    o->prepare(*c);
    Chat(*o).talk();
  });
}

}  // namespace pith::tools
