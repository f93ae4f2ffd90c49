#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "dialects/dialects.h"

namespace waveq {

const std::vector<TargetProfile>& targets() {
  static const std::vector<TargetProfile> all = {deeploy_generic()};
  return all;
}

const TargetProfile& find_target(std::string_view name) {
  const auto it = std::ranges::find(
      targets(), name, [](const TargetProfile& t) { return std::string_view(t.name); });
  if (it != targets().end()) return *it;
  std::vector<std::string> names;
  for (const TargetProfile& t : targets()) names.push_back(t.name);
  throw Error(ErrorCode::invalid_argument, fmt::format("target '{}'", name), "does not exist",
              fmt::format("known targets: {}", fmt::join(names, ", ")));
}

}  // namespace waveq
