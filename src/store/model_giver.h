// Gives this node's models to other members of its cluster.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "net/connection.h"
#include "net/event_loop.h"
#include "store/fetch_messages.h"

namespace baton::store {

// A model with where its parts lie, in the offer's order.
struct GivenModel {
  Offer offer;
  std::vector<std::filesystem::path> paths;
};

// By a name or a digest's first digits. kNotFound or kRefused where the model is not given away, kCancelled by `stop`,
// by which it ends within milliseconds whatever it computes.
using FindGiven = std::function<Result<GivenModel>(const std::string& name, const std::stop_token& stop)>;

// Lives on the loop's thread; the loop must outlive it. Files are read on a thread of each connection.
class ModelGiver {
 public:
  // `find` is called on any thread, also several at once. While `is_busy`, asked on the loop's thread, a model goes out
  // at a trickle, so that it delays no work.
  ModelGiver(net::EventLoop& loop, FindGiven find, std::function<bool()> is_busy);
  ~ModelGiver();
  ModelGiver(const ModelGiver&) = delete;
  ModelGiver& operator=(const ModelGiver&) = delete;

  // A member, whose certificate was judged, wants a model.
  void adopt(std::shared_ptr<net::Connection> connection);
  // It is no member any more.
  void cut_off(const net::Fingerprint& peer);

 private:
  class Giving;

  net::EventLoop& loop_;
  FindGiven find_;
  std::function<bool()> is_busy_;
  std::vector<std::weak_ptr<Giving>> givings_;
};

}  // namespace baton::store
