// Warnings and errors of `pith quantize` for options that have no effect, or a bad one.
#pragma once

#include <string>

#include "runtime/compress/plan.h"
#include "tools/quantize_options.h"

namespace pith::tools {

// Error(kUsage) where OUT is the name of a type or method, and no path.
void require_no_type_as_output(const std::string& output);
// Error(kUsage) for several targets, and for types that round inputs where only weights are chosen.
void require_one_target(const QuantizeCommand& o);

// Where the method that was asked for is not the one of `settings`, as types have it.
void warn_of_method(const MethodChoice& asked, const QuantizeSettings& settings, bool has_text);
void warn_of_useless_options(const QuantizeCommand& o, const MethodChoice& asked,
                             const QuantizeSettings& settings, const ModelSource& source,
                             bool has_text);
void warn_of_choices(const QuantizeCommand& o, const QuantizeSettings& settings,
                     const ModelSource& source, const CompressPlan& plan);

}  // namespace pith::tools
