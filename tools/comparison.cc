#include "tools/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "formats/printable.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

using Row = std::vector<std::string>;
const Row kHead = {"",           "MB",      "of base",  "bits/weight",
                   "perplexity", "mean KL", "same top", "tokens/s"};
constexpr size_t kKlColumn = 5;

std::string optional_text(const std::optional<double>& v, const char* format) {
  return v ? fmt::format(fmt::runtime(format), *v) : "";
}

double share_of_base(const Comparison& c, const ComparedModel& m) {
  const uint64_t base = c.models.front().file_bytes;
  return base > 0 ? static_cast<double>(m.file_bytes) / static_cast<double>(base) : 0;
}

Row cells(const Comparison& c, const ComparedModel& m) {
  return {m.name,
          fmt::format("{:.1f}", static_cast<double>(m.file_bytes) / 1e6),
          &m == &c.models.front() ? "" : fmt::format("{:.0f} %", 100 * share_of_base(c, m)),
          fmt::format("{:.2f}", m.bits),
          fmt::format("{:.3f}", m.perplexity),
          m.kl ? fmt::format("{:.4f} +- {:.4f}", *m.kl, m.kl_error.value_or(0)) : "",
          m.same_top ? fmt::format("{:.1f} %", 100 * *m.same_top) : "",
          optional_text(m.tokens_per_second, "{:.1f}")};
}

std::string caption(const Comparison& c) {
  std::string out = fmt::format(
      "{} tokens of {} by protocol {} ({}). KL: divergence from the base's distributions in nats; "
      "same top: share of tokens whose likeliest successor is the same; tokens/s while generating.",
      c.tokens, c.text, c.protocol, c.summary);
  if (const int best = smallest_good(c); best >= 0) {
    out += fmt::format(" Smallest with a mean KL of at most {}: {}.", kGoodKl,
                       c.models[static_cast<size_t>(best)].name);
  }
  return out;
}

int64_t width_of(std::string_view text) {
  return std::ranges::count_if(text, [](char ch) { return (ch & 0xc0) != 0x80; });
}

std::string wrapped(const std::string& text, size_t width) {
  std::string out, line;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return out + line + "\n";
}

// A name in `width` columns, its middle left out: files differ at their ends.
std::string shortened(const std::string& name, int64_t width) {
  const auto is_start = [](char ch) { return (ch & 0xc0) != 0x80; };
  if (width_of(name) <= width) return name;
  std::vector<std::string> characters;
  for (const char ch : name) {
    if (is_start(ch) || characters.empty()) characters.emplace_back();
    characters.back() += ch;
  }
  const auto keep = static_cast<size_t>(std::max<int64_t>(width - 2, 2));
  std::string out;
  for (size_t i = 0; i < keep / 2; ++i) out += characters[i];
  out += "..";
  for (size_t i = characters.size() - (keep - keep / 2); i < characters.size(); ++i)
    out += characters[i];
  return out;
}

std::string joined(const std::vector<Row>& rows) {
  std::vector<int64_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(static_cast<size_t>(widths[i] - width_of(row[i])), ' ');
      line += i == 0 ? row[i] + pad : "  " + pad + row[i];
    }
    line.resize(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

int64_t widest_line(std::string_view text) {
  int64_t widest = 0;
  for (size_t end; !text.empty(); text.remove_prefix(end + 1)) {
    end = text.find('\n');
    widest = std::max(widest, width_of(text.substr(0, end)));
  }
  return widest;
}

std::string table(const Comparison& c, int64_t width) {
  const std::string below =
      "\n" + wrapped(caption(c), static_cast<size_t>(std::clamp<int64_t>(width, 20, 100)));
  std::vector<Row> rows = {kHead};
  for (const auto& m : c.models) {
    rows.push_back(cells(c, m));
    rows.back()[0] = one_line(m.name);
  }
  const auto fits = [&] { return widest_line(joined(rows)) <= width; };
  const auto shorten_names = [&](int64_t to) {
    for (auto& row : rows) row[0] = shortened(row[0], to);
  };
  if (!fits()) shorten_names(32);
  if (!fits()) rows[0] = {"", "MB", "of base", "bits", "ppl", "mean KL", "same top", "tok/s"};
  if (!fits()) {  // KL without its error
    for (size_t i = 1; i < rows.size(); ++i)
      rows[i][kKlColumn] = rows[i][kKlColumn].substr(0, rows[i][kKlColumn].find(' '));
  }
  if (!fits()) shorten_names(16);
  constexpr size_t kLeastFirst[] = {7, 6, 4, 3, 2};  // not the size and KL
  for (const size_t column : kLeastFirst) {
    if (fits()) break;
    for (auto& row : rows) row.erase(row.begin() + static_cast<std::ptrdiff_t>(column));
  }
  if (!fits()) shorten_names(8);
  return joined(rows) + below;
}

std::string escaped(std::string_view text, std::string_view special, const char* const* by) {
  std::string out;
  for (const char ch : text) {
    const size_t i = special.find(ch);
    if (i == special.npos)
      out += ch;
    else
      out += by[i];
  }
  return out;
}

std::string markdown(const Comparison& c) {
  constexpr const char* kBy[] = {"\\|", " "};
  const auto line = [&](const Row& row) {
    std::string out = "|";
    for (const auto& cell : row) out += " " + escaped(cell, "|\n", kBy) + " |";
    return out + "\n";
  };
  std::string out = line(kHead) + "| --- |";
  for (size_t i = 1; i < kHead.size(); ++i) out += " ---: |";
  out += "\n";
  for (const auto& m : c.models) out += line(cells(c, m));
  return out + "\n" + caption(c) + "\n";
}

std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == text.npos) return text;
  constexpr const char* kBy[] = {"\"\""};
  return "\"" + escaped(text, "\"", kBy) + "\"";
}

std::string csv(const Comparison& c) {
  std::string out =
      "name,file,file_bytes,bits_per_weight,perplexity,perplexity_standard_error,kl_mean,"
      "kl_standard_error,same_top,decode_tokens_per_s\n";
  for (const auto& m : c.models) {
    out += fmt::format("{},{},{},{},{},{},{},{},{},{}\n", csv_text(m.name), csv_text(m.path),
                       m.file_bytes, m.bits, m.perplexity, m.perplexity_error,
                       optional_text(m.kl, "{}"), optional_text(m.kl_error, "{}"),
                       optional_text(m.same_top, "{}"), optional_text(m.tokens_per_second, "{}"));
  }
  return out;
}

std::string html_text(std::string_view text) {
  constexpr const char* kBy[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
  return escaped(text, "&<>\"'", kBy);
}

// Size to the right, divergence upward in decades.
std::string figure(const Comparison& c) {
  std::vector<const ComparedModel*> points;
  for (const auto& m : c.models) {
    if (m.kl && *m.kl > 0) points.push_back(&m);
  }
  if (points.empty()) return "";
  double low = 0, high = -9, largest = 0;
  for (const auto* p : points) {
    low = std::min(low, std::floor(std::log10(*p->kl)));
    high = std::max(high, std::ceil(std::log10(*p->kl)));
    largest = std::max(largest, static_cast<double>(p->file_bytes) / 1e6);
  }
  low = std::max(low, -9.0);
  high = std::max(high, low + 1);
  constexpr double kLeft = 70, kTop = 20, kWidth = 560, kHeight = 320;
  const double step = std::pow(10, std::floor(std::log10(largest)));
  const double unit = largest / step < 2 ? step / 4 : largest / step < 5 ? step / 2 : step;
  const double right = std::ceil(largest * 1.1 / unit) * unit;
  const auto x = [&](double mb) { return kLeft + kWidth * mb / right; };
  const auto y = [&](double kl) {
    const double at = (std::max(std::log10(kl), low) - low) / (high - low);
    return kTop + kHeight * (1 - at);
  };
  std::string out =
      "<svg viewBox=\"0 0 720 400\" width=\"720\" role=\"img\" aria-label=\"mean KL divergence "
      "against size of the file\">\n";
  for (double d = low; d <= high + 0.5; d += 1) {
    const double at = y(std::pow(10, d));
    out += fmt::format(
        "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
        kLeft, kLeft + kWidth, at, at, kLeft - 8, at + 4, std::pow(10, d));
  }
  for (double mb = 0; mb <= right * 1.001; mb += unit) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:g}</text>\n",
                       x(mb), kTop + kHeight + 20, mb);
  }
  out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">MB</text>\n",
                     kLeft + kWidth / 2, kTop + kHeight + 44);
  out += fmt::format(
      "<text x=\"16\" y=\"{0:.1f}\" text-anchor=\"middle\" transform=\"rotate(-90 16 "
      "{0:.1f})\">mean KL, nats</text>\n",
      kTop + kHeight / 2);
  for (const auto* p : points) {
    const double px = x(static_cast<double>(p->file_bytes) / 1e6), py = y(*p->kl);
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/><text x=\"{:.1f}\" "
        "y=\"{:.1f}\">{}</text>\n",
        px, py, px + 8, py - 6, html_text(p->name));
  }
  return out + "</svg>\n";
}

std::string html(const Comparison& c) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>" +
      html_text(c.base) +
      " compressed</title>\n<style>\nbody { font: 15px/1.5 sans-serif; max-width: 50em; margin: "
      "2em auto; padding: 0 1em }\ntable { border-collapse: collapse }\nth, td { padding: 0.2em "
      "0.9em; text-align: right; border-bottom: 1px solid #ccc }\nth:first-child, td:first-child { "
      "text-align: left }\nsvg { max-width: 100%; font-size: 13px }\nsvg line { stroke: #ddd "
      "}\nsvg "
      "circle { fill: #06c }\n</style></head><body>\n<h1>" +
      html_text(c.base) + "</h1>\n<table>\n<tr>";
  for (const auto& h : kHead) out += "<th>" + html_text(h) + "</th>";
  out += "</tr>\n";
  for (const auto& m : c.models) {
    out += "<tr>";
    for (const auto& cell : cells(c, m)) out += "<td>" + html_text(cell) + "</td>";
    out += "</tr>\n";
  }
  return out + "</table>\n" + figure(c) + "<p>" + html_text(caption(c)) + "</p>\n</body></html>\n";
}

Json optional_json(const std::optional<double>& v) { return v ? Json(*v) : Json(); }

}  // namespace

int smallest_good(const Comparison& c) {
  int best = -1;
  for (size_t i = 0; i < c.models.size(); ++i) {
    const auto& m = c.models[i];
    if (!m.kl || *m.kl > kGoodKl) continue;
    if (best < 0 || m.file_bytes < c.models[static_cast<size_t>(best)].file_bytes)
      best = static_cast<int>(i);
  }
  return best;
}

Json json_of(const Comparison& c) {
  Json models = Json::array();
  for (const auto& m : c.models) {
    models.push_back({{"name", m.name},
                      {"file", m.path},
                      {"file_bytes", m.file_bytes},
                      {"share_of_base", share_of_base(c, m)},
                      {"bits_per_weight", m.bits},
                      {"perplexity", m.perplexity},
                      {"perplexity_standard_error", m.perplexity_error},
                      {"kl_mean", optional_json(m.kl)},
                      {"kl_standard_error", optional_json(m.kl_error)},
                      {"same_top", optional_json(m.same_top)},
                      {"decode_tokens_per_s", optional_json(m.tokens_per_second)}});
  }
  const int best = smallest_good(c);
  return {{"base", c.base},
          {"text", c.text},
          {"protocol", c.protocol},
          {"protocol_summary", c.summary},
          {"tokens", c.tokens},
          {"method", c.method},
          {"smallest_good", best < 0 ? Json() : Json(c.models[static_cast<size_t>(best)].name)},
          {"models", models}};
}

std::string render(const Comparison& c, std::string_view format, int64_t width) {
  if (format == "table") return table(c, width);
  if (format == "md") return markdown(c);
  if (format == "csv") return csv(c);
  if (format == "json") return json_of(c).dump(2) + "\n";
  if (format == "html") return html(c);
  fail(ErrorKind::kUsage, "unknown format {}: table, md, csv, json, html",
       printable(std::string(format)));
}

}  // namespace pith::tools
