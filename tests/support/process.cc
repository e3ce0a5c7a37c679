#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "core/bytes.h"
#include "core/file.h"

namespace pith::test {

Process::Process(const std::vector<std::string>& arguments,
                 const std::vector<std::string>& environment, const std::string& input) {
  write_file(folder_.file("in"), as_bytes(input));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, folder_.file("in").c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, folder_.file("out").c_str(), O_WRONLY | O_CREAT,
                                   0600);
  posix_spawn_file_actions_addopen(&actions, 2, folder_.file("err").c_str(), O_WRONLY | O_CREAT,
                                   0600);
  std::vector<char*> argv, env;
  for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  for (const auto& e : environment)
    env.push_back(const_cast<char*>(e.c_str()));  // the first counts
  for (char** e = environ; *e != nullptr; ++e) env.push_back(*e);
  env.push_back(nullptr);
  const int error = ::posix_spawn(&id_, argv[0], &actions, nullptr, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) fail(ErrorKind::kIo, "cannot start {}: error {}", arguments[0], error);
}

Process::~Process() {
  if (!running()) return;
  ::kill(id_, SIGKILL);
  while (::waitpid(id_, &status_, 0) < 0 && errno == EINTR) {
  }
}

bool Process::running() {
  if (!ended_) ended_ = ::waitpid(id_, &status_, WNOHANG) == id_;
  return !ended_;
}

void Process::signal(int number) {
  if (running()) ::kill(id_, number);
}

ProcessResult Process::wait() {
  while (!ended_) {
    if (::waitpid(id_, &status_, 0) == id_)
      ended_ = true;
    else if (errno != EINTR)
      fail(ErrorKind::kIo, "waiting for a child failed");
  }
  ProcessResult r;
  if (WIFEXITED(status_)) r.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) r.signal = WTERMSIG(status_);
  r.out = read_text_file(folder_.file("out"), 1 << 26);
  r.err = read_text_file(folder_.file("err"), 1 << 26);
  return r;
}

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment, const std::string& input) {
  return Process(arguments, environment, input).wait();
}

}  // namespace pith::test
