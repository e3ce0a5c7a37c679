// Conversations that ended too early: full contexts, empty templates, commands that went to the
// model, interrupts, pasted texts.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}";

class Chat : public testing::Test {
 protected:
  Chat() {
    test::write_tiny_checkpoint(model(), test::tiny_config({.layers = 1, .vocab = 640}));
    std::filesystem::copy_file(test::fixture("golden/tokenizers/llama2_style.json"),
                               folder_.file("model/tokenizer.json"));
    set_template(kTemplate);
  }
  std::string model() const { return folder_.file("model"); }
  void set_template(const std::string& text) {
    const std::string config = Json{{"chat_template", text}}.dump();
    write_file(folder_.file("model/tokenizer_config.json"), std::as_bytes(std::span(config)));
  }
  test::ProcessResult chat(const std::string& input, std::vector<std::string> more = {}) {
    std::vector<std::string> c = {PITH_PROGRAM, "chat", model(), "-n",     "2", "-t",
                                  "1",          "-c",   "64",    "--temp", "0", "--ignore-eos"};
    c.insert(c.end(), more.begin(), more.end());
    return test::run_process(c, {"HOME=" + folder_.path()}, input);
  }
  Json turns(const std::string& input, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--json", "-"});
    const auto r = chat(input, more);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return parse_json(r.out, "output")["turns"];
  }

  test::TemporaryFolder folder_;
};

TEST_F(Chat, a_full_context_drops_the_oldest_turns_and_goes_on) {
  std::string input;
  for (int i = 0; i < 8; ++i) input += "the cat sat on the mat\n";
  const auto r = chat(input, {"-sys", "be brief", "--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.err.find("the context is full: the oldest"), std::string::npos) << r.err;
  const Json j = parse_json(r.out, "output");
  ASSERT_EQ(j["turns"].size(), 8u);
  for (const auto& turn : j["turns"]) EXPECT_TRUE(turn.contains("text")) << turn;
}

TEST_F(Chat, a_message_that_never_fits_is_named_and_passed_over) {
  std::string longer;
  for (int i = 0; i < 50; ++i) longer += "the cat ";
  const auto r = chat("hello\n" + longer + "\nhello\n", {"--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.err.find("the message is too long"), std::string::npos) << r.err;
  const Json all = parse_json(r.out, "output")["turns"];
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1]["error"]["kind"], "usage");
  EXPECT_TRUE(all[2].contains("text"));
}

TEST_F(Chat, a_template_that_gives_no_text_is_an_error) {
  for (const char* text : {"{# x #}", "{% if messages|length > 1 %}x{% endif %}",
                           "{% if messages|length < 2 %}x{% endif %}"}) {
    set_template(text);
    const auto r = chat("hi\nhi\n");
    EXPECT_EQ(r.exit_code, 3) << text << r.err;
    EXPECT_NE(r.err.find("no text"), std::string::npos) << r.err;
    EXPECT_EQ(
        test::run_process({PITH_PROGRAM, "run", model(), "--chat", "-p", "", "-n", "1"}).signal, 0);
  }
}

TEST_F(Chat, line_ends_of_windows_are_line_ends) {
  EXPECT_EQ(turns("hello\r\n")[0]["prompt_tokens"], turns("hello\n")[0]["prompt_tokens"]);
}

TEST_F(Chat, messages_may_have_several_lines) {
  const auto tokens = [&](const std::string& input) {
    const Json all = turns(input);
    EXPECT_EQ(all.size(), 1u);
    return all[0]["prompt_tokens"];
  };
  const Json one = tokens("a\\\nb\n");
  EXPECT_EQ(tokens("\"\"\"\na\nb\n\"\"\"\n"), one);
  EXPECT_EQ(tokens("\"\"\"a\nb\"\"\"\n"), one);
  EXPECT_EQ(turns("\"\"\"a\\\nb\n").size(), 1u);  // without an end
}

TEST_F(Chat, commands_do_not_go_to_the_model) {
  const auto r = chat(
      "/help\n/nonsense\n/saev x\n/set temp nan\n/set temp 0.5\n/set\n/regen\n"
      "/clear\n/system you rhyme\n/system\n\n  \nhello\n/regen\nexit\nlate\n",
      {"--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(parse_json(r.out, "output")["turns"].size(), 2u);
  for (const char* text :
       {"/help", "no command /nonsense", "did you mean /save?", "temp nan: must be 0 to 100",
        "temp 0.5", "no message to answer again", "you rhyme"}) {
    EXPECT_NE(r.err.find(text), std::string::npos) << text << "\n" << r.err;
  }
  // Each says what it did, in a line of its own, and takes what the option of that name takes.
  const std::vector<std::pair<std::string, std::string>> said = {
      {"/set temp", "temp 0\n"},
      {"/set temp 0.5", "temp 0.5\n"},
      {"/set --top_p = 0.5", "top-p 0.5\n"},
      {"/set max-tokens 7", "n-predict 7\n"},
      {"/set n 7", "n-predict 7\n"},
      {"/set top-k -1", "top-k 0\n"},
      {"/set seed 9", "seed 9\n"},
      {"/set top-p 0", "top-p 0: must be above 0 and at most 1\n"},
      {"/set n 1.5", "must be a whole number\n"},
      {"/set tmp 1", "did you mean temp?"},
      {"/set", "seed 0\n"},
      {"/system be brief", "the system message was set\n"},
      {"/clear", "0 messages forgotten\n"},
      {"hello\n/clear", "2 messages forgotten\n"},
      {"/set n 1\nhello\n/set temp 101\n/regen", "must be 0 to 100\n"}};
  for (const auto& [typed, line] : said) {
    const auto told = chat(typed + "\n", {"--seed", "0"});
    EXPECT_EQ(told.exit_code, 0) << told.err;
    EXPECT_NE(told.err.find(line), std::string::npos) << typed << "\n" << told.err;
  }
  // Two slashes are one of the message.
  EXPECT_EQ(turns("//x\n").size(), 1u);
  for (const char* leave : {"/exit", "/quit", "/bye", "/exit ", "exit", "quit"})
    EXPECT_EQ(turns(leave + std::string("\nhello\n")).size(), 0u) << leave;
}

TEST_F(Chat, conversations_are_saved_and_loaded) {
  const std::string file = folder_.file("talk.json");
  ASSERT_EQ(turns("/system s\nhello\n/save " + file + "\n").size(), 1u);
  const Json saved = parse_json(read_text_file(file, 1 << 20), "saved");
  ASSERT_EQ(saved.size(), 3u);
  EXPECT_EQ(saved[0], (Json{{"role", "system"}, {"content", "s"}}));
  EXPECT_EQ(saved[1], (Json{{"role", "user"}, {"content", "hello"}}));
  EXPECT_EQ(saved[2]["role"], "assistant");
  EXPECT_GT(turns("/load " + file + "\nagain\n")[0]["prompt_tokens"].get<int>(),
            turns("again\n")[0]["prompt_tokens"].get<int>());
  const auto r = chat("/load /nonexistent\n/load " + model() + "/config.json\n/save\n");
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.err.find("no list of messages"), std::string::npos) << r.err;
}

TEST_F(Chat, a_file_that_is_none_is_named_and_the_conversation_goes_on) {
  const std::string fifo = folder_.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const char* command : {"/save ", "/load "}) {
    for (const std::string& path :
         {fifo, folder_.path(), std::string("/dev/null"), std::string("/dev/zero")}) {
      const auto r = chat(command + path + "\nhello\n", {"--json", "-"});
      EXPECT_EQ(r.exit_code, 0) << r.err;
      EXPECT_NE(r.err.find(path + ": is "), std::string::npos) << command << path << r.err;
      EXPECT_EQ(parse_json(r.out, "output")["turns"].size(), 1u);
    }
  }
}

TEST_F(Chat, a_line_without_an_end_is_bounded) {
  const auto r = chat(std::string(5 << 20, 'x') + "\nhello\n", {"--json", "-"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.err.find("was dropped"), std::string::npos) << r.err;
  EXPECT_EQ(parse_json(r.out, "output")["turns"].size(), 1u);
}

TEST_F(Chat, what_a_model_writes_cannot_steer_the_terminal) {
  const auto r = chat(
      "\x1b[2J\xc2\x9b"
      "31m\nhello\n");
  EXPECT_EQ(r.exit_code, 0) << r.err;
  for (const auto* text : {&r.out, &r.err}) {
    EXPECT_EQ(text->find('\x1b'), std::string::npos) << *text;
    EXPECT_EQ(text->find("\xc2\x9b"), std::string::npos) << *text;
  }
}

// ---- On a terminal ----

class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& arguments, const std::string& home) {
    master_ = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) return;
    const std::string name = ::ptsname(master_);
    child_ = ::fork();
    if (child_ == 0) {
      ::setsid();
      const int slave = ::open(name.c_str(), O_RDWR);
      ::ioctl(slave, TIOCSCTTY, 0);
      for (int i = 0; i < 3; ++i) ::dup2(slave, i);
      ::close(slave);
      ::close(master_);
      ::setenv("HOME", home.c_str(), 1);
      ::setenv("TERM", "xterm", 1);
      ::unsetenv("XDG_STATE_HOME");
      ::unsetenv("NO_COLOR");
      std::vector<char*> argv;
      for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(98);
    }
  }
  ~Terminal() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    if (master_ >= 0) ::close(master_);
  }
  bool works() const { return child_ > 0; }

  void type(const std::string& keys) {
    if (::write(master_, keys.data(), keys.size()) < 0) ADD_FAILURE() << "cannot type";
  }
  // Reads on until the program has shown this; what came since the last call, up to it.
  std::string until(const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (seen_.find(text) == std::string::npos && std::chrono::steady_clock::now() < end) {
      if (!read_more()) break;
    }
    const size_t at = seen_.find(text);
    EXPECT_NE(at, std::string::npos) << seen_ << "\n  should show: " << text;
    const std::string shown = seen_.substr(0, at);
    seen_.erase(0, at == std::string::npos ? at : at + text.size());
    return shown;
  }
  // Reads on until the program has shown more.
  void some() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (seen_.empty() && std::chrono::steady_clock::now() < end && read_more()) {
    }
  }
  int exit_code() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  // false: the program has ended.
  bool read_more() {
    pollfd p{master_, POLLIN, 0};
    if (::poll(&p, 1, 100) <= 0) return true;
    char part[4096];
    const ssize_t n = ::read(master_, part, sizeof(part));
    if (n > 0) seen_.append(part, static_cast<size_t>(n));
    return n > 0;
  }

  int master_ = -1;
  pid_t child_ = -1;
  std::string seen_;
};

// The text on the line of the prompt.
const std::string kReady = "> ";

void say_hello_and_leave(Terminal& t) {
  t.until(kReady);
  t.type("hello\r");
  t.until("ended by");
  t.until(kReady);
  t.type("\x04");
  EXPECT_EQ(t.exit_code(), 0);
}
// Comes when a line was read.
const std::string kRead = "\x1b[?2004l";

TEST_F(Chat, on_a_terminal_interrupts_clear_stop_or_leave) {
  Terminal t({PITH_PROGRAM, "chat", model(), "-n", "-1", "-c", "60000", "-t", "1", "--ignore-eos"},
             folder_.path());
  if (!t.works()) GTEST_SKIP() << "no terminals here";
  t.until(kReady);
  t.type("half a line");
  t.until("line");
  t.type("\x03");  // clears what was typed
  t.until(kReady);
  t.type("hello\r");
  t.until(kRead);
  t.some();  // of the answer, which is written until it is stopped
  t.type("\x03");
  t.until("ended by cancelled");
  EXPECT_EQ(t.until(kReady).find("stopped"), std::string::npos);
  t.type("\x03");  // may have been meant for the answer
  t.until("again");
  t.until(kReady);
  t.type("\x03");
  EXPECT_EQ(t.exit_code(), 130);
}

TEST_F(Chat, on_a_terminal_a_pasted_text_is_one_message_and_lines_are_remembered) {
  const std::string json = folder_.file("chat.json");
  {
    Terminal t({PITH_PROGRAM, "chat", model(), "-n", "1", "-t", "1", "--json", json},
               folder_.path());
    if (!t.works()) GTEST_SKIP() << "no terminals here";
    EXPECT_NE(t.until(kReady).find("/help"), std::string::npos);
    t.type("\x1b[200~one\rtwo\rthree\x1b[201~\r");
    t.until("ended by");
    t.until(kReady);
    t.type("\x1b[A\r");  // the same once more
    t.until("ended by");
    t.until(kReady);
    t.type("\x04");
    EXPECT_EQ(t.exit_code(), 0);
  }
  const Json j = parse_json(read_text_file(json, 1 << 20), "chat");
  EXPECT_EQ(j["turns"].size(), 2u);
  const std::string history = read_text_file(folder_.file(".local/state/pith/history"), 1 << 20);
  EXPECT_NE(history.find("three"), std::string::npos) << history;
}

TEST_F(Chat, on_a_terminal_a_history_that_is_a_pipe_is_left_alone) {
  std::filesystem::create_directories(folder_.file(".local/state/pith"));
  ASSERT_EQ(::mkfifo(folder_.file(".local/state/pith/history").c_str(), 0600), 0);
  Terminal t({PITH_PROGRAM, "chat", model(), "-n", "1", "-t", "1"}, folder_.path());
  if (!t.works()) GTEST_SKIP() << "no terminals here";
  say_hello_and_leave(t);
}

TEST_F(Chat, json_on_a_terminal_stays_free_of_prompts) {
  const std::string out = folder_.file("out");
  Terminal t({"/bin/sh", "-c",
              std::string(PITH_PROGRAM) + " chat " + model() + " -n 1 -t 1 --json - >" + out},
             folder_.path());
  if (!t.works()) GTEST_SKIP() << "no terminals here";
  say_hello_and_leave(t);
  EXPECT_EQ(parse_json(read_text_file(out, 1 << 20), "output")["turns"].size(), 1u);
}

}  // namespace
}  // namespace pith
