#include "formats/jinja/interpreter.h"

#include <algorithm>

#include "formats/jinja/builtins.h"
#include "formats/jinja/print.h"

namespace pith::jinja {

Text Interpreter::run(const Program& program) {
  for (const Block* block : program.blocks) blocks_[block->name] = block;
  Text result;
  out_ = &result;
  exec(program.body);
  return result;
}

Value Interpreter::make_namespace(Namespace members) {
  namespaces_.push_back(std::make_unique<Namespace>(std::move(members)));
  return namespaces_.back().get();
}

Value Interpreter::make_cycler(Cycler cycler) {
  cyclers_.push_back(std::make_unique<Cycler>(std::move(cycler)));
  return cyclers_.back().get();
}

Interpreter::Flow Interpreter::exec(const Body& body) {
  for (const Stmt& stmt : body) {
    const Flow flow = exec(stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt) {
  const int outer_line = enter(stmt.line);
  const Flow flow = std::visit([this](const auto& node) { return exec_node(node); }, stmt.node);
  leave(outer_line);
  return flow;
}

void Interpreter::emit(const Text& text) {
  meter_.walk(text.size());
  if (out_->size() + text.size() > out_limit_) {
    meter_.corrupt("more than {} bytes of output", out_limit_);
  }
  out_->append(text);
}

void Interpreter::emit_value(const Value& value) {
  const TextPtr text = to_text(meter_, value);
  if (autoescape_ && !text->markup()) return emit(escaped(meter_, *text));
  emit(*text);
}

Interpreter::Flow Interpreter::exec_node(const Data& n) {
  emit(Text(n.text, Origin::kTemplate));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Print& n) {
  emit_value(eval(*n.value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const If& n) {
  for (const Branch& branch : n.branches) {
    if (truth(eval(*branch.condition))) return exec(branch.body);
  }
  return exec(n.otherwise);
}

Interpreter::Flow Interpreter::exec_node(const For& n) {
  return run_loop(n, eval(*n.sequence), here(), 0);
}

std::vector<Value> Interpreter::loop_items(const For& n, const Value& sequence) {
  std::vector<Value> items = elements(meter_, sequence);
  if (n.filter == nullptr) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    scopes_.back().variables.clear();
    bind(n.target, item);
    if (truth(eval(*n.filter))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::run_loop(const For& n, const Value& sequence, ScopeRef around,
                                        int64_t depth0) {
  const auto* source = std::get_if<ListPtr>(&sequence);
  const auto taken = source != nullptr ? (*source)->taken : nullptr;
  const size_t taken_before = taken != nullptr ? *taken : 0;
  push_scope(around.place);
  const auto list = std::get<ListPtr>(make_list(meter_, loop_items(n, sequence)));
  Loop loop{list, 0, depth0, ++last_loop_, n.recursive ? &n : nullptr, around};
  for (size_t i = 0; i < list->items.size(); ++i) {
    meter_.step();
    scopes_.back().variables.clear();
    scopes_.back().serial = ++last_serial_;
    bind(n.target, list->items[i]);
    loop.index0 = static_cast<int64_t>(i);
    scopes_.back().variables["loop"] = std::make_shared<const Loop>(loop);
    if (exec(n.body) == Flow::kBreak) {
      // A generator that a loop leaves early can be continued.
      if (taken != nullptr && n.filter == nullptr) *taken = taken_before + i + 1;
      break;
    }
  }
  Flow flow = Flow::kNext;
  if (list->items.empty() && !n.otherwise.empty()) {
    scopes_.back().variables.clear();
    flow = exec(n.otherwise);
  }
  pop_scope();
  return flow;
}

bool Interpreter::changed(const Loop& loop, std::vector<Value> values) {
  meter_.step(1 + values.size());
  const auto [it, first] = changed_.try_emplace(loop.id);
  std::vector<Value>& last = it->second;
  bool same = !first && last.size() == values.size();
  for (size_t i = 0; same && i < values.size(); ++i) same = equal(meter_, last[i], values[i]);
  if (!same) last = std::move(values);
  return !same;
}

void Interpreter::bind(const Target& target, const Value& value) {
  if (target.tuple) {
    const std::vector<Value> parts = elements(meter_, value);
    if (parts.size() != target.parts.size()) {
      meter_.corrupt("{} values for {} names", parts.size(), target.parts.size());
    }
    for (size_t i = 0; i < parts.size(); ++i) bind(target.parts[i], parts[i]);
    return;
  }
  if (target.object.empty()) {
    scopes_.back().variables[target.name] = value;
    return;
  }
  const Value* object = find_variable(target.object);
  if (object == nullptr || !is<Namespace*>(*object)) {
    meter_.corrupt("'set {}.{}' on something that is no namespace", target.object, target.name);
  }
  if (target.name.starts_with('_')) {
    meter_.corrupt("the name '{}' of a member of a namespace", target.name);
  }
  std::get<Namespace*>(*object)->members[target.name] = value;
}

Interpreter::Flow Interpreter::exec_node(const Set& n) {
  bind(n.target, n.block ? block_value(n.body, n.value) : eval(*n.value));
  return Flow::kNext;
}

CallablePtr Interpreter::closure(const Macro& macro) const {
  Callable callable;
  callable.kind = Callable::kMacro;
  callable.name = macro.name;
  callable.macro = &macro;
  callable.scope = here();
  callable.autoescape = autoescape_;
  return std::make_shared<const Callable>(std::move(callable));
}

Interpreter::Flow Interpreter::exec_node(const MacroDefinition& n) {
  scopes_.back().variables[n.macro->name] = closure(*n.macro);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const CallBlock& n) {
  emit_value(call(std::get<Call>(n.call->node), closure(*n.body)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Scope& n) {
  push_scope();
  exec(n.body);
  pop_scope();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const With& n) {
  std::vector<Value> values;
  for (const auto& variable : n.variables) values.push_back(eval(*variable.second));
  push_scope();
  for (size_t i = 0; i < values.size(); ++i) bind(n.variables[i].first, values[i]);
  const Flow flow = exec(n.body);
  pop_scope();
  return flow;
}

Interpreter::Flow Interpreter::exec_node(const FilterBlock& n) {
  const Value value = block_value(n.body, n.value);
  text_argument(value, "what a filter block gives");
  emit_value(value);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Autoescape& n) {
  const bool outer = std::exchange(autoescape_, truth(eval(*n.on)));
  push_scope();
  const Flow flow = exec(n.body);
  pop_scope();
  autoescape_ = outer;
  return flow;
}

Interpreter::Flow Interpreter::exec_node(const BlockDefinition& n) {
  push_scope(n.block->scoped ? scopes_.size() - 1 : 0);
  exec(n.block->body);
  pop_scope();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_node(const Refused& n) {
  meter_.unsupported("the tag '{}': a chat template has no other templates beside it", n.tag);
}

template <class Print>
Text Interpreter::captured(Print print) {
  Text result;
  Text* const outer = std::exchange(out_, &result);
  const uint64_t outer_limit = std::exchange(out_limit_, kMaxText);
  print();
  out_ = outer;
  out_limit_ = outer_limit;
  return result;
}

Text Interpreter::capture(const Body& body) {
  return captured([&] {
    push_scope();
    exec(body);
    pop_scope();
  });
}

Value Interpreter::block_value(const Body& body, const ExprPtr& filters) {
  Text text = capture(body);
  text.set_markup(autoescape_);
  Value value = make_text(meter_, std::move(text));
  if (filters == nullptr) return value;
  block_texts_.push_back(std::move(value));
  value = eval(*filters);
  block_texts_.pop_back();
  return value;
}

// ---- calls

Value Interpreter::call_macro(const Callable& callable, const ArgumentValues& args) {
  if (++calls_ > kMaxNesting) meter_.corrupt("macro calls nested deeper than {}", kMaxNesting);
  const Macro& macro = *callable.macro;
  if (!is_alive(callable.scope)) {
    meter_.unsupported("'{}' called after the block that it was defined in has ended", macro.name);
  }
  push_scope(callable.scope.place);
  const bool outer = std::exchange(autoescape_, callable.autoescape);
  bind_parameters(macro, args);
  Text result = captured([&] { exec(macro.body); });
  autoescape_ = outer;
  pop_scope();
  --calls_;
  result.set_markup(autoescape_);
  return make_text(meter_, std::move(result));
}

void Interpreter::bind_parameters(const Macro& macro, const ArgumentValues& args) {
  auto& variables = scopes_.back().variables;
  meter_.step(args.positional.size() + macro.parameters.size() * (1 + args.named.size()));
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, missing] = macro.parameters[i];
    Value value = Undefined{&name};
    if (args.has(i, name)) {
      value = args.get(i, name);
    } else if (missing != nullptr) {
      value = eval(*missing);
    }
    variables[name] = std::move(value);
  }
  bind_rest(macro, args);
}

// Binds caller, varargs and kwargs to the remaining arguments, where the macro uses them.
void Interpreter::bind_rest(const Macro& macro, const ArgumentValues& args) {
  auto& variables = scopes_.back().variables;
  const size_t count = macro.parameters.size();
  const auto is_parameter = [&](const std::string& name) {
    const size_t given = std::min(args.positional.size(), count);
    return std::any_of(macro.parameters.begin() + static_cast<std::ptrdiff_t>(given),
                       macro.parameters.end(), [&](const auto& p) { return p.first == name; });
  };
  static const std::string kCaller = "caller";
  if (macro.uses_caller && variables.find(kCaller) == variables.end()) {
    variables[kCaller] = Undefined{&kCaller};
  }
  std::vector<std::pair<Value, Value>> others;
  for (const auto& [name, value] : args.named) {
    if (is_parameter(name)) continue;
    if (name == kCaller && macro.uses_caller) {
      variables[kCaller] = value;
    } else if (macro.uses_kwargs) {
      others.emplace_back(make_text(meter_, name), value);
    } else {
      meter_.corrupt("the macro '{}' has no parameter '{}'", macro.name, name);
    }
  }
  if (macro.uses_kwargs) variables["kwargs"] = make_dict(meter_, std::move(others));
  std::vector<Value> more;
  if (args.positional.size() > count) {
    if (!macro.uses_varargs) {
      meter_.corrupt("the macro '{}' takes {} arguments", macro.name, count);
    }
    more.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(count),
                args.positional.end());
  }
  if (macro.uses_varargs) {
    variables["varargs"] = make_list(meter_, std::move(more), ListKind::kTuple);
  }
}

// A block that is not `scoped` sees the names of the template only, and so does self.block().
Value Interpreter::call_block(const Block& block) {
  if (++calls_ > kMaxNesting) meter_.corrupt("blocks nested deeper than {}", kMaxNesting);
  Text text = captured([&] {
    push_scope(0);
    exec(block.body);
    pop_scope();
  });
  --calls_;
  text.set_markup(autoescape_);
  return make_text(meter_, std::move(text));
}

Value Interpreter::call_loop(const Loop& loop, const ArgumentValues& args) {
  if (loop.node == nullptr) meter_.corrupt("a loop is called that is not 'recursive'");
  check_arguments("loop", args, "/ items");
  if (args.positional.empty()) meter_.corrupt("'loop' is called without what to loop over");
  if (!is_alive(loop.around)) meter_.unsupported("a loop called after it has ended");
  if (++calls_ > kMaxNesting) meter_.corrupt("loops nested deeper than {}", kMaxNesting);
  Text text =
      captured([&] { run_loop(*loop.node, args.positional[0], loop.around, loop.depth0 + 1); });
  --calls_;
  text.set_markup(autoescape_);
  return make_text(meter_, std::move(text));
}

}  // namespace pith::jinja
