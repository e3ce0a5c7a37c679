#include "core/limits.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace pith {
namespace {

// A small file of the system, which has no size; empty where it cannot be read.
std::string text_of(const std::string& path) {
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return text;
  char part[4096];
  for (ssize_t n; text.size() < (1 << 20) && (n = ::read(fd, part, sizeof(part))) > 0;)
    text.append(part, static_cast<size_t>(n));
  ::close(fd);
  return text;
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(by), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return out;
}

std::optional<uint64_t> number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  uint64_t v = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), v).ec != std::errc()) return {};
  return v;
}

// The number behind a key of lines "key: 12 kB" or "key 12".
std::optional<uint64_t> field(std::string_view text, std::string_view key) {
  for (const auto line : split(text, '\n')) {
    if (!line.starts_with(key)) continue;
    std::string_view rest = line.substr(key.size());
    if (rest.starts_with(':')) rest.remove_prefix(1);
    if (rest.starts_with(' ') || rest.starts_with('\t')) return number(rest);
  }
  return {};
}

uint64_t add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
uint64_t less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

// The folders of this process's cgroups of a controller ("" for version 2), its own first and then
// those it lies in. Inside of a container the path may be the host's: then only the root is there.
std::vector<std::string> cgroups(const SystemFiles& files, std::string_view controller) {
  std::vector<std::string> out;
  const std::string lines = text_of(files.proc + "/self/cgroup");
  for (const auto line : split(lines, '\n')) {
    const size_t a = line.find(':'), b = line.find(':', a + 1);
    if (b == std::string_view::npos) continue;
    const auto names = split(line.substr(a + 1, b - a - 1), ',');
    const bool here =
        controller.empty() ? names.empty() : std::ranges::find(names, controller) != names.end();
    if (!here) continue;
    std::string path(line.substr(b + 1));
    std::vector<std::string> roots = {files.cgroups};
    if (!controller.empty()) {
      roots = {files.cgroups + "/" + std::string(controller)};
      if (names.size() > 1)  // "cpu,cpuacct" is one mount
        roots.push_back(files.cgroups + "/" + std::string(line.substr(a + 1, b - a - 1)));
    } else {
      roots.push_back(files.cgroups + "/unified");
    }
    while (true) {
      while (path.ends_with('/')) path.pop_back();
      for (const auto& root : roots) out.push_back(root + path);
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return out;
}

void take_least(MemoryLimit& least, uint64_t bytes, const char* by) {
  if (bytes < least.bytes) least = {bytes, by};
}

// `soft`: above it the group is slowed down and not killed.
void limit_by_cgroups(const SystemFiles& files, bool now, MemoryLimit& least) {
  struct Form {
    const char *controller, *limit, *soft, *usage, *cached;
  };
  constexpr Form kForms[] = {
      {"", "memory.max", "memory.high", "memory.current", "inactive_file"},
      {"memory", "memory.limit_in_bytes", "", "memory.usage_in_bytes", "total_inactive_file"}};
  for (const auto& f : kForms) {
    for (const auto& folder : cgroups(files, f.controller)) {
      std::optional<uint64_t> limit = number(text_of(folder + "/" + f.limit));
      if (now && *f.soft != '\0') {
        if (const auto soft = number(text_of(folder + "/" + f.soft)))
          limit = std::min(limit.value_or(UINT64_MAX), *soft);
      }
      if (!limit) continue;  // "max"
      uint64_t bytes = *limit;
      if (now) {  // what caches of files take goes where it is needed
        const uint64_t used = number(text_of(folder + "/" + f.usage)).value_or(0);
        const uint64_t cached = field(text_of(folder + "/memory.stat"), f.cached).value_or(0);
        bytes = less(bytes, less(used, cached));
      }
      take_least(least, bytes, "the memory limit of the cgroup");
    }
  }
}

// The most that the process may have includes the memory that it has and can give back; mapped
// files and programs take address space besides.
void limit_by_process(const SystemFiles& files, bool now, MemoryLimit& least) {
  const std::string status = text_of(files.proc + "/self/status");
  const uint64_t data = now ? 0 : field(status, "VmData").value_or(0);
  const struct {
    int resource;
    const char *used, *name;
  } limits[] = {{RLIMIT_AS, "VmSize", "the limit of address space (ulimit -v)"},
                {RLIMIT_DATA, "VmData", "the limit of data (ulimit -d)"}};
  for (const auto& l : limits) {
    rlimit r{};
    if (::getrlimit(static_cast<__rlimit_resource_t>(l.resource), &r) != 0 ||
        r.rlim_cur == RLIM_INFINITY) {
      continue;
    }
    const uint64_t used = less(field(status, l.used).value_or(0), data) << 10;
    take_least(least, less(r.rlim_cur, used), l.name);
  }
}

double gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

}  // namespace

MemoryLimit available_memory(const SystemFiles& files) {
  MemoryLimit least;
  const std::string text = text_of(files.proc + "/meminfo");
  if (const auto free = field(text, "MemAvailable")) take_least(least, *free << 10, "free RAM");
  limit_by_cgroups(files, true, least);
  limit_by_process(files, true, least);
  return least;
}

MemoryLimit most_memory(const SystemFiles& files) {
  MemoryLimit least;
  const std::string text = text_of(files.proc + "/meminfo");
  if (const auto all = field(text, "MemTotal")) {
    take_least(least, add(*all, field(text, "SwapTotal").value_or(0)) << 10,
               "RAM and swap of this machine");
  }
  limit_by_cgroups(files, false, least);
  limit_by_process(files, false, least);
  return least;
}

uint64_t memory_in_use(const SystemFiles& files) {
  const std::string status = text_of(files.proc + "/self/status");
  return add(field(status, "RssAnon").value_or(0), field(status, "VmSwap").value_or(0)) << 10;
}

double cpu_limit(const SystemFiles& files) {
  double least = 0;
  const auto take = [&](double quota, double period) {
    if (quota > 0 && period > 0 && (least == 0 || quota / period < least)) least = quota / period;
  };
  for (const auto& folder : cgroups(files, "")) {
    const std::string text = text_of(folder + "/cpu.max");  // "50000 100000", "max 100000"
    const auto parts = split(std::string_view(text).substr(0, text.find('\n')), ' ');
    if (parts.size() < 2) continue;
    if (const auto quota = number(parts[0]), period = number(parts[1]); quota && period)
      take(static_cast<double>(*quota), static_cast<double>(*period));
  }
  for (const auto& folder : cgroups(files, "cpu")) {
    const auto quota = number(text_of(folder + "/cpu.cfs_quota_us"));  // -1: none
    const auto period = number(text_of(folder + "/cpu.cfs_period_us"));
    if (quota && period) take(static_cast<double>(*quota), static_cast<double>(*period));
  }
  return least;
}

void require_memory(uint64_t bytes, const std::string& what, const std::string& remedy) {
  const MemoryLimit most = most_memory();
  if (bytes <= most.bytes) return;
  fail(ErrorKind::kMemory, "{} takes {:.2f} GB of memory, and there are {:.2f} GB at most ({}){}{}",
       what, gigabytes(bytes), gigabytes(most.bytes), most.by, remedy.empty() ? "" : ": ", remedy);
}

std::string memory_warning(uint64_t bytes, const std::string& what) {
  const MemoryLimit now = available_memory();
  if (bytes <= now.bytes) return "";
  return fmt::format("{} takes {:.2f} GB of memory, and {:.2f} GB are available ({})", what,
                     gigabytes(bytes), gigabytes(now.bytes), now.by);
}

}  // namespace pith
