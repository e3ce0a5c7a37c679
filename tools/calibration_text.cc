#include "tools/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "runtime/compress/builtin_text.h"
#include "runtime/compress/openings.h"
#include "runtime/compress/settings.h"
#include "tools/input_text.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using Kind = CalibrationInput::Kind;

CalibrationInput input_of(const std::string& given) {
  CalibrationInput input{.kind = Kind::kFile, .name = given};
  const size_t eq = given.rfind('=');
  if (eq != std::string::npos && eq > 0 && !file_exists(given)) {
    const char* const end = given.data() + given.size();
    double weight = 0;
    const auto [stop, error] = std::from_chars(given.data() + eq + 1, end, weight);
    if (stop == end && eq + 1 < given.size()) {
      if (error != std::errc() || !(weight > 0) || !std::isfinite(weight))
        fail(ErrorKind::kUsage, "--calib {}: a weight is a number above 0", one_line(given));
      input.name = given.substr(0, eq);
      input.weight = weight;
    }
  }
  return calibration_input(input.name, input.weight);
}

// A source with the windows that it has.
struct Domain {
  CalibrationSource source;
  Kind kind = Kind::kFile;
  std::vector<int32_t> tokens;
  int64_t available = 0;  // windows
  int64_t taken = 0;
};

Domain domain_of_file(const CalibrationInput& input, const ModelSource& source,
                      const Tokenizer& tokenizer, int64_t body) {
  const InputText text = read_input_text(input.name);
  Domain d{.source = {.name = text.path.substr(text.path.rfind('/') + 1),
                      .weight = input.weight,
                      .hash = text.hash,
                      .file = true},
           .kind = input.kind,
           .tokens = tokens_of(text, source, tokenizer)};
  d.available = body > 0 ? std::ssize(d.tokens) / body : 0;
  if (d.available == 0) {
    fail(ErrorKind::kUsage, "{}: {} tokens, one calibration window needs {}", one_line(text.path),
         d.tokens.size(), body);
  }
  return d;
}

// Conversations as plain text, for a model that has no template for them.
void make_plain(InputText* text) {
  text->text.clear();
  for (const auto& c : text->conversations) {
    for (const auto& m : c.messages) text->text += m.content + "\n\n";
  }
  text->conversations.clear();
}

// A domain for each file that has a window. They share the weight evenly.
void add_builtin(const CalibrationInput& input, const ModelSource& source,
                 const Tokenizer& tokenizer, int64_t body, std::vector<Domain>* domains) {
  const size_t before = domains->size();
  for (const auto& file : builtin_texts()) {
    InputText text = parse_input_text(fmt::format("builtin/{}", file.name), std::string(file.text));
    if (!text.is_plain() && source.tokenizer().chat_template.empty()) make_plain(&text);
    Domain d{.source = {.name = text.path, .hash = text.hash},
             .kind = input.kind,
             .tokens = tokens_of(text, source, tokenizer)};
    d.available = body > 0 ? std::ssize(d.tokens) / body : 0;
    if (d.available > 0) domains->push_back(std::move(d));
  }
  const size_t files = domains->size() - before;
  if (files == 0)
    fail(ErrorKind::kUsage, "--calib builtin: no file of it fills a window of {} tokens", body);
  for (size_t i = before; i < domains->size(); ++i)
    (*domains)[i].source.weight = input.weight / static_cast<double>(files);
}

std::vector<Domain> domains_of(const CalibrationInputs& inputs, const ModelSource& source,
                               const Tokenizer* tokenizer, int64_t count, int64_t body) {
  std::vector<Domain> domains;
  for (const auto& input : inputs) {
    if (input.kind == Kind::kSelf) {
      domains.push_back(
          {.source = {.name = "self", .weight = input.weight, .hash = 0, .written = true},
           .kind = input.kind,
           .tokens = {},
           .available = count});
    } else if (input.kind == Kind::kBuiltin) {
      add_builtin(input, source, *tokenizer, body, &domains);
    } else {
      domains.push_back(domain_of_file(input, source, *tokenizer, body));
    }
  }
  return domains;
}

// The domain of each window, by Sainte-Lague's method: the next window goes to the domain that is
// furthest behind its share. It alternates between them by itself.
std::vector<int> share_out(std::vector<Domain>& domains, int64_t count) {
  std::vector<int> order;
  while (std::ssize(order) < count) {
    int next = -1;
    double most = 0;
    for (size_t d = 0; d < domains.size(); ++d) {
      const double claim = domains[d].source.weight / static_cast<double>(2 * domains[d].taken + 1);
      if (domains[d].taken == domains[d].available || claim <= most) continue;
      most = claim;
      next = static_cast<int>(d);
    }
    if (next < 0) break;
    ++domains[static_cast<size_t>(next)].taken;
    order.push_back(next);
  }
  return order;
}

void warn_of_shortage(const std::vector<Domain>& domains, int64_t windows, int64_t count,
                      int64_t length) {
  if (windows < count) {
    const std::string who = domains.size() == 1 ? one_line(domains.front().source.name)
                                                : std::string("the calibration text");
    return warn(
        fmt::format("{} has {} of {} tokens, {} were asked for: a longer text, or a smaller "
                    "--nsamples or --seqlen",
                    who, counted(windows, "window"), length, count));
  }
  double weights = 0;
  for (const auto& d : domains) weights += d.source.weight;
  for (const auto& d : domains) {
    const auto share = static_cast<int64_t>(static_cast<double>(count) * d.source.weight / weights);
    if (d.kind != Kind::kFile || d.taken >= share) continue;
    warn(fmt::format("{} has {} of {} tokens, its share is {}: the other texts make up for it",
                     one_line(d.source.name), counted(d.taken, "window"), length, share));
  }
}

uint64_t hash_of_sources(const std::vector<CalibrationSource>& sources) {
  if (sources.size() == 1) return sources.front().hash;
  Hasher h;
  for (const auto& s : sources) h.add(std::as_bytes(std::span(&s.hash, 1)));
  return h.value();
}

bool is_written(const CompressOptions& o, size_t window) {
  return o.sources[static_cast<size_t>(o.domain[window])].written;
}

// Without the blank that some tokenizers put before a text.
std::string_view after_blank(std::string_view text) {
  return text.starts_with(' ') ? text.substr(1) : text;
}

// Openings of texts, as far as the tokenizer can write them, at most a quarter of a window; and of
// answers to messages, at most half of one.
std::vector<std::vector<int32_t>> openings_of(const ModelSource& source, const Tokenizer& tokenizer,
                                              int64_t length) {
  std::vector<std::vector<int32_t>> openings;
  const int32_t bos = source.spec().bos_token();
  for (const std::string_view text : text_openings()) {
    auto tokens = tokenizer.encode(text, {.add_special = false});
    if (tokens.empty() || after_blank(tokenizer.decode(tokens)) != after_blank(text)) continue;
    if (std::ssize(tokens) > length / 4)
      tokens.resize(static_cast<size_t>(std::max<int64_t>(1, length / 4)));
    if (bos >= 0) tokens.insert(tokens.begin(), bos);
    openings.push_back(std::move(tokens));
  }
  if (source.tokenizer().chat_template.empty()) return openings;
  const ChatFormat format(source.tokenizer().chat_template, tokenizer);
  const size_t before = openings.size();
  std::string refused;
  for (const char* message : user_openings()) {
    try {
      auto tokens = format.encode({{"user", message}});
      if (std::ssize(tokens) <= length / 2) openings.push_back(std::move(tokens));
    } catch (const Error& e) {
      refused = e.what();
    }
  }
  if (openings.size() == before && !refused.empty())
    warn(fmt::format("the model writes no answers to messages: its chat template: {}", refused));
  return openings;
}

}  // namespace

CalibrationInput calibration_input(const std::string& name, double weight) {
  // To 12 digits: what was shared out and added up again is what it was.
  from_setting(fmt::format("{:.12g}", weight), &weight);
  CalibrationInput input{.kind = Kind::kFile, .name = name, .weight = weight};
  if (name == "self") input.kind = Kind::kSelf;
  if (name == "builtin") input.kind = Kind::kBuiltin;
  return input;
}

std::vector<std::string> default_sources(const ModelSource& source) {
  if (source.tokenizer().empty()) return {"self"};
  return {"self", "builtin"};
}

CalibrationInputs calibration_inputs(const std::vector<std::string>& named) {
  if (named.size() == 1 && named.front() == "none") return {};
  CalibrationInputs inputs;
  for (const auto& given : named) {
    CalibrationInput input = input_of(given);
    if (input.name == "none") fail(ErrorKind::kUsage, "--calib none goes with no other text");
    if (std::ranges::any_of(inputs, [&](const auto& i) { return i.name == input.name; }))
      fail(ErrorKind::kUsage, "--calib {} is given twice", one_line(input.name));
    inputs.push_back(std::move(input));
  }
  return inputs;
}

double written_share(const CalibrationInputs& inputs) {
  double all = 0, written = 0;
  for (const auto& i : inputs) {
    all += i.weight;
    if (i.kind == Kind::kSelf) written += i.weight;
  }
  return all > 0 ? written / all : 0;
}

bool has_files(const CalibrationInputs& inputs) {
  return std::ranges::any_of(inputs, [](const auto& i) { return i.kind != Kind::kSelf; });
}

void cut_calibration_text(const CalibrationInputs& inputs, const ModelSource& source,
                          const Tokenizer* tokenizer, int64_t count, int64_t length,
                          CompressOptions* options) {
  const int32_t bos = source.spec().bos_token();
  const int64_t body = length - (bos >= 0);
  auto domains = domains_of(inputs, source, tokenizer, count, body);
  options->domain = share_out(domains, count);
  warn_of_shortage(domains, std::ssize(options->domain), count, length);
  std::vector<int64_t> cut(domains.size());  // windows so far
  for (const int domain : options->domain) {
    const Domain& d = domains[static_cast<size_t>(domain)];
    std::vector<int32_t>& w = options->calibration.emplace_back();
    if (d.source.written) {
      w.resize(static_cast<size_t>(length));
      continue;
    }
    const int64_t at = cut[static_cast<size_t>(domain)]++ * d.available / d.taken * body;
    const std::span rest = std::span(d.tokens).subspan(static_cast<size_t>(at));
    if (bos >= 0 && rest.front() != bos) w.push_back(bos);  // a chat template writes its own
    const auto here = rest.first(std::min(rest.size(), static_cast<size_t>(length) - w.size()));
    w.insert(w.end(), here.begin(), here.end());
  }
  for (auto& d : domains) options->sources.push_back(std::move(d.source));
  options->calibration_hash = hash_of_sources(options->sources);
}

TextRequest request_of(const CompressOptions& options, const ModelSource& source,
                       const Tokenizer* tokenizer) {
  TextRequest request{.seed = options.seed, .stops = {}, .openings = {}};
  for (size_t w = 0; w < options.calibration.size(); ++w) {
    if (!is_written(options, w)) continue;
    ++request.count;
    request.length = std::ssize(options.calibration[w]);
  }
  if (request.count == 0) return request;
  const auto& own = source.spec().stop_tokens();
  request.stops = tokenizer != nullptr ? stop_tokens(source.spec(), *tokenizer)
                                       : std::vector<int32_t>(own.begin(), own.end());
  if (tokenizer != nullptr) request.openings = openings_of(source, *tokenizer, request.length);
  const auto vocab = static_cast<int64_t>(source.spec().vocab());
  for (const auto& opening : request.openings) {
    for (const int32_t id : opening) {
      if (id >= vocab) {
        fail(ErrorKind::kCorrupt,
             "the tokenizer has token {}, and the model knows tokens below {}: the tokenizer is of "
             "another model",
             id, vocab);
      }
    }
  }
  return request;
}

void put_written_text(const Windows& text, CompressOptions* options) {
  size_t next = 0;
  for (size_t w = 0; w < options->calibration.size(); ++w) {
    if (is_written(*options, w)) options->calibration[w] = text[next++];
  }
  Hasher h;
  for (const auto& w : text) h.add(std::as_bytes(std::span(w)));
  for (auto& s : options->sources) {
    if (s.written) s.hash = h.value();
  }
  options->calibration_hash = hash_of_sources(options->sources);
}

}  // namespace pith::tools
