// What strangers type or send as a model's name, an address or a fetch message.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "store/fetch_messages.h"
#include "store/model_name.h"
#include "store/quantisation.h"
#include "store/short_names.h"
#include "store/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton;
  using namespace baton::store;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto name = parse_model_name(text)) {
    const auto again = parse_model_name(to_string(*name));
    if (!again || *again != *name) std::abort();
    if (const auto* given = std::get_if<ShortName>(&*name)) find_on_hub(*given);
  }
  if (const auto url = Url::parse(text)) {
    const auto again = Url::parse(url->to_string());
    if (!again || again->to_string() != url->to_string()) std::abort();
    static_cast<void>(url->resolve(text));
  }
  static_cast<void>(quantisation_of(text));
  const RemoteFile file{std::string(text), 1, {}};
  static_cast<void>(models_in({&file, 1}));
  if (const auto message = decode(ByteSpan(reinterpret_cast<const std::byte*>(data), size))) {
    if (!decode(encode(*message))) std::abort();
  }
  return 0;
}
