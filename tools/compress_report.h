// The lines and the JSON of commands that compress a model: the plan, and the result.
#pragma once

#include "core/json.h"
#include "runtime/compress/driver.h"
#include "tools/compress_job.h"

namespace pith::tools {

inline uint64_t peak_of(const CompressPlan& plan, const Peaks& peaks) {
  return std::max({plan.memory_bytes, peaks.text, peaks.measuring});
}

// `plan_is_final`: else the types are not chosen yet, and the plan is of the largest.
void print_plan(const Job& job, const CompressPlan& plan, bool plan_is_final = true);
// What the JSON says of a plan. "planned_seconds" is null where nothing is known of it.
Json json_of(const Job& job, const CompressPlan& plan);
// Prints every linear, and adds it to the JSON.
void report_linears(const CompressCommand& o, const CompressPlan& plan, Json* j);
// Prints what became of a compression, and adds it to the JSON.
void report_result(const Job& job, const CompressReport& report, Json* j);
void tell_what_next(const CompressCommand& o);

}  // namespace pith::tools
