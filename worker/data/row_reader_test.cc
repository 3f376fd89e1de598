#include "worker/data/row_reader.h"

#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "worker/data/file_io.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

using Make = std::unique_ptr<RowReader> (*)(std::unique_ptr<TextInput>);

// All rows as "where {fields}", or the error.
absl::StatusOr<std::vector<std::string>> ReadAll(Make make, const std::string& text) {
  auto reader = make(TextInput::FromString(text, "f"));
  std::vector<std::string> rows;
  for (Row row;;) {
    auto more = reader->Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) return rows;
    rows.push_back(row.where + " " + Dump(row.fields));
  }
}

std::vector<std::string> Rows(Make make, const std::string& text) {
  auto rows = ReadAll(make, text);
  EXPECT_OK(rows) << text;
  return rows.ok() ? *rows : std::vector<std::string>();
}

TEST(JsonlTest, ReadsRowsWithTheirLines) {
  EXPECT_THAT(Rows(NewJsonlReader, "{\"b\":1,\"a\":\"x\"}\n\n  \r\n{\"c\":[]}\r\n{}"),
              ElementsAre(R"(f:1 {"b":1,"a":"x"})", R"(f:4 {"c":[]})", "f:5 {}"));
}

TEST(JsonlTest, PassesOverAByteOrderMark) {
  EXPECT_THAT(Rows(NewJsonlReader, "\xEF\xBB\xBF{\"a\":1}\n"), ElementsAre(R"(f:1 {"a":1})"));
}

TEST(JsonlTest, NamesTheLineOfWhatIsWrong) {
  EXPECT_THAT(ReadAll(NewJsonlReader, "{}\n{\"a\":}\n"), StatusIs(kInvalid, HasSubstr("f:2: not JSON")));
  EXPECT_THAT(ReadAll(NewJsonlReader, "{}\n[1]\n"), StatusIs(kInvalid, HasSubstr("f:2: holds a list")));
  EXPECT_THAT(ReadAll(NewJsonlReader, "{\"a\":\"\\ud800\"}"), StatusIs(kInvalid, HasSubstr("f:1: not JSON")));
}

TEST(JsonlTest, NamesLineAndOffsetOfABadByte) {
  EXPECT_THAT(ReadAll(NewJsonlReader, "{}\n{\"a\":\"caf\xE9\"}\n"),
              StatusIs(kInvalid, HasSubstr("f:2: not UTF-8: byte 0xE9 at offset 12 ")));
}

TEST(JsonlTest, BoundsNesting) {
  const std::string deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_THAT(ReadAll(NewJsonlReader, deep), StatusIs(kInvalid, HasSubstr("nested more than 100 deep")));
}

TEST(JsonArrayTest, ReadsRowsWithTheirLines) {
  EXPECT_THAT(Rows(NewJsonArrayReader, "\xEF\xBB\xBF[ {\"a\": \"]},\\\"\"},\n {\"b\":\n{\"c\": [1]}} ]\n"),
              ElementsAre(R"(f:1 {"a":"]},\""})", R"(f:2 {"b":{"c":[1]}})"));
  EXPECT_THAT(Rows(NewJsonArrayReader, " [ ] "), ElementsAre());
}

TEST(JsonArrayTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "f:1: not a JSON list: the end of the file"},
      {"{\"data\": []}", "f:1: not a JSON list: '{'"},
      {"[{}", "f:1: not a JSON list: the end of the file"},
      {"[{} {}]", "f:1: not a JSON list: '{' where ',' or ']'"},
      {"[{}]\nx", "f:2: text follows"},
      {"[{},]", "f:1: not JSON"},
      {"[,{}]", "f:1: not JSON"},
      {"[\n1]", "f:2: holds a number"},
      {"[{},\n{\"a\"", "f:2: the file ends inside the row"},
      {"[{\"a\": ]}]", "f:1: not JSON"},
      {"[\n{\"a\":\n\"\xFF\"}]", "f:3: not UTF-8: byte 0xFF at offset 9"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(ReadAll(NewJsonArrayReader, text), StatusIs(kInvalid, HasSubstr(message))) << text;
  }
}

TEST(CsvTest, ReadsRfc4180) {
  EXPECT_THAT(Rows(NewCsvReader, "a,b\r\n1,\"x, \"\"y\"\"\r\nz\"\r\n,\r\n\"\",plain \"quote\"\r\n"),
              ElementsAre(R"(f:2 {"a":"1","b":"x, \"y\"\r\nz"})", R"(f:4 {"a":"","b":""})",
                          R"(f:5 {"a":"","b":"plain \"quote\""})"));
}

TEST(CsvTest, TakesEveryLineEndAndAByteOrderMark) {
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const std::string e = end;
    EXPECT_EQ(Rows(NewCsvReader,
                   "\xEF\xBB\xBF"
                   "a,b" +
                       e + "1,2" + e + e + "3,4")
                  .size(),
              2)
        << Json(e);
  }
  EXPECT_THAT(Rows(NewCsvReader, "\xEF\xBB\xBF\"a\"\n1"), ElementsAre(R"(f:2 {"a":"1"})"));
}

TEST(CsvTest, HasNoRowsInAnEmptyFile) {
  EXPECT_THAT(Rows(NewCsvReader, ""), ElementsAre());
  EXPECT_THAT(Rows(NewCsvReader, "a,b\n"), ElementsAre());
}

TEST(CsvTest, NamesWhatIsWrong) {
  const std::pair<std::string, const char*> cases[] = {
      {"a,b\n1\n", "f:2: 1 fields where the header names 2"},
      {"a,b\n1,2,3\n", "f:2: 3 fields where the header names 2"},
      {"a,a\n", "f:1: the header names column \"a\" twice"},
      {"a,b\n1,\"x\ny", "f:2: the quote that opens in field 2 never closes"},
      {"a,b\n1,\"x\"y\n", "f:2: text follows the closing quote of field 2"},
      {"a,b\n\"1\n\",\"\"\"\xC0\xAF\"\n", "f:3: not UTF-8: byte 0xC0 at offset 12"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(ReadAll(NewCsvReader, text), StatusIs(kInvalid, HasSubstr(message))) << text;
  }
}

TEST(OpenRowsTest, GoesByTheName) {
  const std::string folder = NewFolder("files");
  const std::pair<const char*, const char*> files[] = {
      {"a.jsonl", "{\"a\":\"1\"}"}, {"a.JSON", "[{\"a\":\"1\"}]"}, {"a.csv", "a\n1"}};
  for (const auto& [name, text] : files) {
    ASSERT_OK(dataprep::WriteFile(folder + "/" + name, text));
    ASSERT_OK_AND_ASSIGN(auto reader, OpenRows(folder + "/" + name));
    Row row;
    ASSERT_OK_AND_ASSIGN(bool more, reader->Next(&row));
    EXPECT_TRUE(more);
    EXPECT_EQ(row.fields["a"], "1") << name;
    ASSERT_OK_AND_ASSIGN(more, reader->Next(&row));
    EXPECT_FALSE(more);
  }
  EXPECT_THAT(OpenRows(folder + "/a.parquet"), StatusIs(kInvalid, HasSubstr(".jsonl, .json and .csv")));
  EXPECT_THAT(OpenRows(folder + "/b.csv"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("b.csv")));
  ASSERT_OK(MakeFolders(folder + "/folder.csv"));
  EXPECT_THAT(OpenRows(folder + "/folder.csv"), StatusIs(kInvalid, HasSubstr("a folder")));
}

// Rows that lie across the edges of the read buffer.
TEST(OpenRowsTest, ReadsFilesLargerThanItsBuffer) {
  std::string text;
  for (int i = 0; i < 30000; ++i) text += "{\"a\":\"" + std::string(i % 113, 'x') + std::to_string(i) + "\"}\r\n";
  ASSERT_GT(text.size(), size_t{2} << 20);
  const std::string path = NewFolder("files") + "/a.jsonl";
  ASSERT_OK(dataprep::WriteFile(path, text));
  ASSERT_OK_AND_ASSIGN(auto reader, OpenRows(path));
  Row row;
  for (int i = 0; i < 30000; ++i) {
    ASSERT_OK_AND_ASSIGN(bool more, reader->Next(&row));
    ASSERT_TRUE(more);
    ASSERT_EQ(row.fields["a"], std::string(i % 113, 'x') + std::to_string(i));
    ASSERT_EQ(row.where, path + ":" + std::to_string(i + 1));
  }
}

}  // namespace
}  // namespace studio
