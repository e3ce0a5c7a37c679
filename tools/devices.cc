#include <fmt/format.h>

#include "runtime/backends.h"
#include "tools/command.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

void devices(const Common& o) {
  o.apply();
  const DeviceList list = list_devices();
  Json j = Json::array();
  for (const auto& d : list.devices) {
    j.push_back({{"backend", d.backend},
                 {"name", d.name},
                 {"level", d.level},
                 {"memory_bytes", d.memory_bytes}});
    if (o.prints())
      say("{:<5} {:<28} {:<8} {}\n", d.backend, d.name, d.level, human_bytes(d.memory_bytes));
  }
  o.write_json({{"devices", j}, {"cuda_note", list.cuda_note}});
  if (o.prints() && !list.cuda_note.empty()) say("cuda  {}\n", list.cuda_note);
}

}  // namespace

void add_devices(CLI::App& app) {
  auto* c = app.add_subcommand("devices", "list what this machine can compute on");
  auto o = std::make_shared<Common>();
  o->add_to(*c);
  c->callback([o] { devices(*o); });
}

}  // namespace pith::tools
