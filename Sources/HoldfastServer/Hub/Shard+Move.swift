import HoldfastBroker
import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

/// Finding a session for a client that wants to go on, and fetching it when it lives on another event loop.
///
/// A connection stays on the loop that accepted it, so the session moves. No publication may fall into the gap between the
/// two loops: the new loop subscribes first and holds back what comes, then the old loop lets the session go, and what the
/// session has seen by then is taken off what was held back. Every publication up to the point where the new loop
/// subscribed was queued for the old loop before the request to let go, so the old loop has delivered it.
extension Shard {
    /// - Parameter completion: called once, on this loop, perhaps before this returns, with the session on this loop;
    ///   `nil` if there is none of that name or the secret is wrong.
    func find(_ name: SessionName, completion: @escaping (Session?) -> Void) {
        self.loop.assertInEventLoop()
        guard let index = self.gateway.registry.shard(of: name.handle) else { return completion(nil) }
        if index == self.index {
            let session = self.sessions[name.handle].flatMap { $0.name == name ? $0 : nil }
            return completion(session)
        }
        let owner = self.gateway.shards[index]
        let here = NIOLoopBound(completion, eventLoop: self.loop)
        owner.loop.execute {
            // Only now may the other loop's state be looked at. It may have moved on or ended meanwhile.
            let session = owner.sessions[name.handle].flatMap { $0.name == name ? $0 : nil }
            let topics = session.map { Array($0.subscriptions.keys) }
            self.loop.execute {
                guard let topics else { return here.value(nil) }
                self.holdPlaces(topics) { places in
                    self.fetch(name, from: owner, places: places, completion: here.value)
                }
            }
        }
    }

    /// Subscribes to the topics of a session that is about to come, holding back what arrives.
    private func holdPlaces(_ topics: [String], completion: @escaping ([String: Place]) -> Void) {
        var places: [String: Place] = [:]
        var missing = topics.count
        guard missing > 0 else { return completion(places) }
        for name in topics {
            let place = Subscription(topic: self.topic(name), session: nil, extras: [])
            place.topic.add(place)
            // Recovery is not asked for: the session's own position is better than any that could be asked with.
            self.subscribe(place, since: nil, history: .none) { result in
                if case .success(let recovery) = result {
                    places[name] = Place(subscription: place, sequence: recovery.sequence)
                } else {
                    self.leave(place)
                }
                missing -= 1
                if missing == 0 { completion(places) }
            }
        }
    }

    private struct Place {
        let subscription: Subscription
        /// Everything after this is in the subscription's waiting list.
        let sequence: UInt64
    }

    private func fetch(
        _ name: SessionName,
        from owner: Shard,
        places: [String: Place],
        completion: @escaping (Session?) -> Void
    ) {
        let here = NIOLoopBound((places: places, completion: completion), eventLoop: self.loop)
        owner.loop.execute {
            let session = owner.sessions[name.handle]
            session?.letGoOfTransport()
            if let session { owner.release(session) }
            let moving = Moving(session: session)
            self.loop.execute {
                let (places, completion) = here.value
                if let session = moving.session { self.settle(session, places) }
                for place in places.values { self.leave(place.subscription) }
                completion(moving.session)
            }
        }
    }

    /// A session between two loops. `@unchecked Sendable`: the old loop has forgotten it before the new one hears of it.
    private struct Moving: @unchecked Sendable {
        let session: Session?
    }

    private func settle(_ session: Session, _ places: [String: Place]) {
        self.adopt(session)
        for (name, old) in session.subscriptions {
            let subscription = Subscription(topic: self.topic(name), session: session, extras: old.extras)
            subscription.topic.add(subscription)
            subscription.seen = old.seen
            session.subscriptions[name] = subscription
            subscription.waiting = old.waiting ?? []
            if let place = places[name] {
                subscription.waiting?.append(contentsOf: place.subscription.waiting ?? [])
            } else {
                // Subscribed after the places were held, by events still under way from the old transport, or refused by
                // the broker: nothing is known of what came between.
                self.subscribe(subscription, since: nil, history: .none) { _ in }
                session.send(ServerEvent.gap(subscription: name, after: nil, next: nil))
            }
            session.catchUp(subscription)
        }
    }

    /// Asks the broker and comes back to this loop with the answer, at once if it is there at once.
    func subscribe(
        _ subscription: Subscription,
        since: Position?,
        history: HistorySettings,
        completion: @escaping (Result<Recovery, BrokerError>) -> Void
    ) {
        let here = NIOLoopBound(completion, eventLoop: self.loop)
        let loop = self.loop
        self.broker.subscribe(subscription.topic.name, shard: self.index, since: since, history: history) { result in
            if loop.inEventLoop {
                here.value(result)
            } else {
                loop.execute { here.value(result) }
            }
        }
    }
}
