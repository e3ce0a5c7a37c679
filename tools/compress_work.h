// The work of a command that compresses a model: the text, the compression, what is told of it.
#pragma once

#include "core/function_ref.h"
#include "tools/compress_prepare.h"
#include "tools/compress_report.h"

namespace pith::tools {

// One compression; what became of it.
Json compress_once(Job& job, const Passes& passes, const CompressOptions& options,
                   bool plan_is_shown);
// Shows the plan of every linear; nothing is computed.
void show_plan(const Job& job, const CompressPlan& plan);
// Opens the work folder (see open_work), shows the plan, lets the model write the text that is asked
// for, and calls `compress` for the report. What was done is kept where an error may go away.
void work_on(Job& job, const Passes& passes, const CompressPlan& plan, bool plan_is_final,
             const std::vector<const char*>& open, bool uses_costs, Prepared& p,
             FunctionRef<Json()> compress);

}  // namespace pith::tools
