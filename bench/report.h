// What a benchmark measured, for a person and for a program.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace adit::bench {

struct Summary {
  double min = 0;
  double median = 0;
  double max = 0;
};
// Of at least one sample.
Summary summarize(std::vector<double> samples);

// Cycles of the time stamp counter a second.
double tsc_hz();
// Of the processor, for the head of a table.
std::string cpu_name();

// Of this process, now. Throws std::runtime_error if it cannot be told.
uint64_t resident_bytes();

// Writes `rows` as one JSON array. Throws std::runtime_error if it cannot.
void write_json(const std::string& path, const nlohmann::json& rows);

}  // namespace adit::bench
