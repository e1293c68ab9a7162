// The expressions, by family. In all of them \s is Unicode's White_Space (PCRE2's own \s has U+180E too).
#include <algorithm>

#include "text/pre_tokenizer.h"

#define SPACE R"(\p{WSpace})"
#define NO_SPACE R"(\P{WSpace})"
// Trailing white space leaves its last character to the next word, where that may begin with one.
#define SPACES SPACE "+(?!" NO_SPACE ")"
#define LINE_ENDS SPACE R"(*[\r\n]+)"
#define CONTRACTION R"('(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))"

namespace baton::text {
namespace {

using Strings = const std::string_view[];

constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" SPACE R"(\p{L}\p{N}]+|)" SPACES;
constexpr std::string_view kDigit = R"(\p{N})";

constexpr Strings kGpt2 = {kGpt2Words};
constexpr Strings kGpt2Names = {"gpt-2",           "phi-2",    "mpt",     "olmo",   "jais",    "trillion",
                                "granite-docling", "gigachat", "exaone4", "mellum", "a.x-4.0", "modern-bert"};

constexpr Strings kDigits = {kDigit, kGpt2Words};
constexpr Strings kDigitsNames = {"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"};

constexpr Strings kDefault = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Words, R"(\p{N}+)", "[0-9][0-9][0-9]"};
constexpr Strings kDefaultNames = {"default"};

constexpr Strings kFalcon = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Words, "[0-9][0-9][0-9]"};
constexpr Strings kFalconNames = {"falcon"};

constexpr Strings kLlama3 = {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^)" SPACE
                                         R"(\p{L}\p{N}]+[\r\n]*|)" LINE_ENDS "|" SPACES "|" SPACE "+"};
constexpr Strings kLlama3Names = {"llama-bpe", "llama3",  "llama-v3", "falcon3",
                                  "falcon-h1", "pixtral", "midm-2.0", "lfm2"};
constexpr Strings kLlama3LikeNames = {"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"};

constexpr Strings kQwen2 = {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^)" SPACE
                                        R"(\p{L}\p{N}]+[\r\n]*|)" LINE_ENDS "|" SPACES "|" SPACE "+"};
constexpr Strings kQwen2Names = {"qwen2",     "deepseek-r1-qwen", "megrez", "kormo",     "f2llmv2",
                                 "stablelm2", "hunyuan",          "grok-2", "solar-open"};

constexpr Strings kQwen35 = {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^)" SPACE
                                         R"(\p{L}\p{M}\p{N}]+[\r\n]*|)" LINE_ENDS "|" SPACES "|" SPACE "+"};
constexpr Strings kQwen35Names = {"qwen35"};

constexpr Strings kBailing = {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^)" SPACE
                                          R"(\p{L}\p{N}]+[\r\n]*|)" SPACE R"(*[\r\n]|)" SPACES "|" SPACE "+"};
constexpr Strings kBailingNames = {"bailingmoe", "bailingmoe2", "llada-moe"};

constexpr Strings kSeedCoder = {CONTRACTION R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^)" SPACE
                                            R"(\p{L}\p{N}\r\n]+|)" LINE_ENDS "|" SPACES "|" SPACE "+"};
constexpr Strings kSeedCoderNames = {"seed-coder"};

// Letters and the marks on them, with single spaces between, are one word. Possessive, or each letter costs stack.
constexpr Strings kExaoneMoe = {CONTRACTION
                                R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++|\p{N}| ?[^)" SPACE
                                R"(\p{L}\p{N}]+[\r\n/]?|)" SPACE R"(*[\r\n]|)" SPACES "|" SPACE "+"};
constexpr Strings kExaoneMoeNames = {"exaone-moe"};

// Words cut where lower case turns to upper. llama.cpp's reading: any letter but a-z, any letter but A-Z.
#define UPPER R"([^\P{L}a-z])"
#define LOWER R"([^\P{L}A-Z])"
#define CASED_WORDS(ending) \
  R"([^\r\n\p{L}\p{N}]?)" UPPER "*" LOWER "+" ending R"(|[^\r\n\p{L}\p{N}]?)" UPPER "+" LOWER "*" ending
#define AFTER_CASED_WORDS R"( ?[^)" SPACE R"(\p{L}\p{N}]+[\r\n/]*|)" LINE_ENDS "|" SPACES "|" SPACE "+"

constexpr Strings kTekken = {CASED_WORDS("") R"(|\p{N}|)" AFTER_CASED_WORDS};
constexpr Strings kTekkenNames = {"tekken"};

constexpr Strings kGpt4o = {CASED_WORDS("(?:" CONTRACTION ")?") R"(|\p{N}{1,3}|)" AFTER_CASED_WORDS};
constexpr Strings kGpt4oNames = {"gpt-4o", "llama4", "minimax-m2"};

constexpr Strings kYoutu = {
    R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B})"
    R"(\x{FF0C}\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)",
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:)" CONTRACTION
    R"()?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:)" CONTRACTION
    R"()?|\p{N}|)" AFTER_CASED_WORDS};
constexpr Strings kYoutuNames = {"youtu"};

// Han characters apart from other letters. The model's own expression also cuts where lower case turns to upper;
// llama.cpp's reading, which the vectors hold us to, does not. The class is "no letter or Han" turned round, since
// PCRE2 cannot subtract one from the other.
constexpr Strings kKimi = {R"(\p{Han}+|[^\r\n\p{L}\p{N}]?[^\P{L}\p{Han}]+(?:)" CONTRACTION R"()?|\p{N}{1,3}| ?[^)" SPACE
                           R"(\p{L}\p{N}]+[\r\n]*|)" LINE_ENDS "|" SPACES "|" SPACE "+"};
constexpr Strings kKimiNames = {"kimi-k2"};

constexpr Strings kDeepSeek3 = {R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)",
                                R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)"
                                R"([^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)" LINE_ENDS "|" SPACES
                                "|" SPACE "+"};
constexpr Strings kDeepSeek3Names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"};

constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kCjk = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr std::string_view kSpacedLetters = SPACE R"(?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = SPACE R"(?\p{P}+)";
constexpr Strings kDeepSeekCoder = {kLineEnd, kSpacedLetters, kSpacedPunctuation, kCjk, kDigit};
constexpr Strings kDeepSeekCoderNames = {"deepseek-coder"};

#define CASED_LETTERS                                                                                         \
  R"(\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})" \
  R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C})"        \
  R"(\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5})"           \
  R"(\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77})" \
  R"(\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57})" \
  R"(\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"   \
  R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC})" \
  R"(\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D})"    \
  R"(\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B})"   \
  R"(\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"  \
  R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A})" \
  R"(\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2})"          \
  R"(\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})"

constexpr std::string_view kSpacedCasedLetters = SPACE "?[" CASED_LETTERS "]+";
constexpr std::string_view kSpacedSigns =
    SPACE R"(?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";
// White space ends a piece only where it begins there: without the look behind, a long run of it elsewhere would be
// tried from each of its characters.
constexpr std::string_view kTrailingSpace = "(?<!" SPACE ")" SPACE R"(+\z)";
constexpr Strings kDeepSeekLlm = {kLineEnd, kSpacedCasedLetters, kSpacedSigns, kTrailingSpace, kCjk, R"(\p{N}+)"};
constexpr Strings kDeepSeekLlmNames = {"deepseek-llm"};

constexpr std::string_view kBloomWords =
    " ?[^(" SPACE R"(|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+)";
constexpr Strings kBloom = {kBloomWords};
constexpr Strings kBloomNames = {"bloom", "poro-chat", "gpt3-finnish"};
constexpr Strings kViking = {kBloomWords, kDigit};
constexpr Strings kVikingNames = {"viking"};

constexpr Strings kChameleon = {"<sentinel:[0-9]+>",       "IMGIMG[A-I]{1,4}Z", R"([\t\n]|    |  )", kDigit,
                                R"([\p{P}!-/:-@\[-`{-~])", kGpt2Words};
constexpr Strings kChameleonNames = {"chameleon"};

constexpr PreTokenizerSpec kSpecs[] = {
    {.names = kDefaultNames, .expressions = kDefault},
    {.names = kGpt2Names, .expressions = kGpt2},
    {.names = kDigitsNames, .expressions = kDigits},
    {.names = kFalconNames, .expressions = kFalcon},
    {.names = kLlama3Names,
     .expressions = kLlama3,
     .whole_words = WholeWords::kTake,
     .sequence_start = SequenceStart::kBos},
    {.names = kLlama3LikeNames, .expressions = kLlama3},
    {.names = kQwen2Names, .expressions = kQwen2},
    {.names = kQwen35Names, .expressions = kQwen35},
    {.names = kBailingNames, .expressions = kBailing},
    {.names = kSeedCoderNames, .expressions = kSeedCoder},
    {.names = kExaoneMoeNames, .expressions = kExaoneMoe},
    {.names = kTekkenNames,
     .expressions = kTekken,
     .whole_words = WholeWords::kTake,
     .sequence_start = SequenceStart::kBos},
    {.names = kGpt4oNames, .expressions = kGpt4o},
    {.names = kYoutuNames, .expressions = kYoutu, .whole_words = WholeWords::kTake},
    {.names = kKimiNames, .expressions = kKimi},
    {.names = kDeepSeek3Names, .expressions = kDeepSeek3},
    {.names = kDeepSeekCoderNames, .expressions = kDeepSeekCoder},
    {.names = kDeepSeekLlmNames, .expressions = kDeepSeekLlm},
    {.names = kBloomNames, .expressions = kBloom},
    {.names = kVikingNames, .expressions = kViking},
    {.names = kChameleonNames, .expressions = kChameleon, .sequence_start = SequenceStart::kBos},
};

}  // namespace

std::span<const PreTokenizerSpec> pre_tokenizers() { return kSpecs; }

const PreTokenizerSpec* find_pre_tokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const PreTokenizerSpec& spec : kSpecs) {
    if (std::ranges::find(spec.names, name) != spec.names.end()) return &spec;
  }
  return nullptr;
}

}  // namespace baton::text
