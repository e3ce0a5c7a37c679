// Programs that tests start, watch and kill.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/test_data.h"

namespace pith::test {

struct ProcessResult {
  int exit_code = -1;  // -1: ended by the signal
  int signal = 0;
  std::string out, err;
};

// A child with its output in files. Killed by the destructor where it still runs.
class Process {
 public:
  // `environment`: "NAME=value", on top of this process's own. `input` becomes standard input.
  explicit Process(const std::vector<std::string>& arguments,
                   const std::vector<std::string>& environment = {}, const std::string& input = "");
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return id_; }
  bool running();  // false once it has ended
  void signal(int number);
  ProcessResult wait();

 private:
  TemporaryFolder folder_;
  pid_t id_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment = {},
                          const std::string& input = "");

}  // namespace pith::test
