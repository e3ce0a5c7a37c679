// The measurements of an evaluation: a table with one row for each scored token, kept in a file
// where the user names one, so that an interrupted evaluation can resume. Results are computed from
// the whole table, so they are the same bits however often it was interrupted.
//
// The file, little-endian:
//   char magic[8] "PITHEVAL", u32 version, u32 columns, u64 rows, u64 bytes of settings,
//   settings as a JSON object, f64 values[rows][columns], u64 XXH3 of everything before
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/json.h"

namespace pith {

class Measurements {
 public:
  // The setting that is an object of hashes, by what they are of.
  static constexpr const char* kInputs = "inputs";

  // In memory alone.
  explicit Measurements(size_t columns) : columns_(columns) {}
  // Also in a file, which may hold the rows of an earlier run. Error(kUsage) naming the setting
  // where that run had other settings, Error(kCorrupt) where the file is something else.
  Measurements(size_t columns, std::string path, Json settings);

  size_t columns() const { return columns_; }
  size_t rows() const { return values_.size() / columns_; }
  size_t restored() const { return restored_; }  // rows that the file held
  double at(size_t row, size_t column) const { return values_[row * columns_ + column]; }
  void add(std::span<const double> row);
  void cut(size_t rows);  // keeps only the first `rows`

  void save_sometimes();  // at most every 30 s
  void save();            // does nothing without a path
  void remove();          // removes the file, once the result is out

 private:
  size_t columns_;
  std::string path_;
  Json settings_;
  std::vector<double> values_;
  size_t restored_ = 0;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

struct ResumeContent {
  Json settings;
  size_t columns = 0;
  std::vector<double> values;
};
ResumeContent parse_resume_file(std::span<const std::byte> bytes, const std::string& name);
std::string resume_file_bytes(const ResumeContent& content);

}  // namespace pith
