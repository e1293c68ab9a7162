// Log lines to standard error. Safe from any thread.
#pragma once

#include <format>
#include <string_view>

namespace baton::log {

enum class Level { kDebug, kInfo, kWarning, kError, kOff };

// Lines below this level are dropped; kWarning until set.
void set_level(Level level);
bool enabled(Level level);
void write(Level level, std::string_view line);

template <typename... Args>
void debug(std::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug)) write(Level::kDebug, std::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(std::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo)) write(Level::kInfo, std::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(std::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kWarning)) write(Level::kWarning, std::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(std::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kError)) write(Level::kError, std::format(format, std::forward<Args>(args)...));
}

}  // namespace baton::log
