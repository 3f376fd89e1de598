#include "studioctl/settings.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "studioctl/config.pb.h"

namespace studio::ctl {
namespace {

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text.empty()) text = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  void AddWarning(int, int, const std::string&) override {}
  std::string text;
};

std::string ConfigPath(const Console& console) {
  if (std::string path = console.environment("STUDIO_CONFIG"); !path.empty()) return path;
  if (const std::string folder = console.environment("XDG_CONFIG_HOME"); !folder.empty()) {
    return absl::StrCat(folder, "/studio/config.pb.txt");
  }
  const std::string home = console.environment("HOME");
  return home.empty() ? "" : absl::StrCat(home, "/.config/studio/config.pb.txt");
}

absl::StatusOr<Config> ReadConfig(const Console& console) {
  Config config;
  const std::string path = ConfigPath(console);
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (console.environment("STUDIO_CONFIG").empty()) return config;
    return absl::InvalidArgumentError(absl::StrCat("STUDIO_CONFIG: ", path, " cannot be read"));
  }
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  if (!parser.Parse(&stream, &config)) return absl::InvalidArgumentError(absl::StrCat(path, ":", error.text));
  return config;
}

std::string First(const std::string& flag, const std::string& environment, const std::string& config,
                  const std::string& otherwise) {
  if (!flag.empty()) return flag;
  if (!environment.empty()) return environment;
  return config.empty() ? otherwise : config;
}

}  // namespace

absl::StatusOr<Settings> ResolveSettings(const Settings& flags, const Console& console) {
  ASSIGN_OR_RETURN(const Config config, ReadConfig(console));
  Settings settings;
  settings.controller =
      First(flags.controller, console.environment("STUDIO_CONTROLLER"), config.controller(), "127.0.0.1:7070");
  settings.output = First(flags.output, console.environment("STUDIO_OUTPUT"), config.output(), "table");
  for (const char* form : {"table", "wide", "json", "yaml", "name"}) {
    if (settings.output == form) return settings;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("output '", settings.output, "': accepted are table, wide, json, yaml and name"));
}

}  // namespace studio::ctl
