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
    enum Found {
        /// On this loop now.
        case session(Session)
        case refused(Session.Refusal)
    }

    private struct Search: Sendable {
        let name: SessionName
        /// Orders transports that ask for the same session by when they asked, whatever loops they are on.
        let ticket: UInt64
        /// Nothing but a `hello` takes a session from a WebSocket.
        let isOverHTTP: Bool
        var tries = 0
    }

    /// How often a session that is under way between two other loops is asked for, a millisecond apart. It arrives long before.
    static let mostTries = 2000

    /// - Parameters:
    ///   - isOverHTTP: take the session only if its client's last `hello` came over HTTP.
    ///   - completion: called once, on this loop, perhaps before this returns.
    func find(_ name: SessionName, isOverHTTP: Bool = false, completion: @escaping (Found) -> Void) {
        self.loop.assertInEventLoop()
        let ticket = self.gateway.registry.nextTicket()
        self.find(Search(name: name, ticket: ticket, isOverHTTP: isOverHTTP), completion)
    }

    private func find(_ search: Search, _ completion: @escaping (Found) -> Void) {
        let handle = search.name.handle
        guard let index = self.gateway.registry.shard(of: handle) else { return completion(.refused(.unknown)) }
        if index == self.index {
            guard let session = self.sessions[handle] else { return self.findLater(search, completion) }
            switch session.claim(search.name, search.ticket, isOverHTTP: search.isOverHTTP) {
            case .taken: return completion(.session(session))
            case .later: return self.findLater(search, completion)
            case .refused(let refusal): return completion(.refused(refusal))
            }
        }
        let owner = self.gateway.shards[index]
        let here = NIOLoopBound(completion, eventLoop: self.loop)
        owner.loop.execute {
            // Only now may the other loop's state be looked at. It may have moved on or ended meanwhile.
            guard let session = owner.sessions[handle] else {
                return self.loop.execute { self.findLater(search, here.value) }
            }
            switch session.claim(search.name, search.ticket, isOverHTTP: search.isOverHTTP) {
            case .taken: break
            case .later: return self.loop.execute { self.findLater(search, here.value) }
            case .refused(let refusal): return self.loop.execute { here.value(.refused(refusal)) }
            }
            let topics = Set(session.subscriptions.names.map(ExactName.init))
            self.loop.execute {
                self.fetch(search, from: owner, asked: topics, places: self.holdPlaces(topics), completion: here.value)
            }
        }
    }

    /// The registry knows the session, but it is between two loops, or has just ended.
    private func findLater(_ search: Search, _ completion: @escaping (Found) -> Void) {
        guard search.tries < Self.mostTries else { return completion(.refused(.unknown)) }
        var search = search
        search.tries += 1
        let here = NIOLoopBound(completion, eventLoop: self.loop)
        self.loop.scheduleTask(in: .milliseconds(1)) { [search] in self.find(search, here.value) }
    }

    /// Subscribes to the topics of a session that is about to come, holding back what arrives.
    private func holdPlaces(_ topics: Set<ExactName>) -> NameTable<Place> {
        var places = NameTable<Place>()
        for name in topics.map(\.text) {
            let place = Subscription(topic: self.topic(name), session: nil, service: .placeholder, extras: [])
            place.topic.add(place)
            do throws(BrokerError) {
                let sequence = try self.broker.extend(name, to: self.index)
                places[name] = Place(subscription: place, sequence: sequence)
            } catch {
                self.logger.warning("a subscription cannot move", metadata: ["error": "\(error)"])
                self.leave(place)
            }
        }
        return places
    }

    private struct Place {
        let subscription: Subscription
        /// Everything after this is in the subscription's waiting list.
        let sequence: UInt64
    }

    /// - Parameter asked: topics that places were held in, those included that the broker refused.
    private func fetch(
        _ search: Search,
        from owner: Shard,
        asked: Set<ExactName>,
        places: NameTable<Place>,
        completion: @escaping (Found) -> Void
    ) {
        let here = NIOLoopBound((places: places, completion: completion), eventLoop: self.loop)
        owner.loop.execute {
            guard let session = owner.sessions[search.name.handle],
                case .taken = session.claim(search.name, search.ticket, isOverHTTP: search.isOverHTTP)
            else {
                return self.loop.execute {
                    for place in here.value.places.values { self.leave(place.subscription) }
                    // Another transport was quicker, or the session has ended.
                    self.find(search, here.value.completion)
                }
            }
            // Its old transport may have subscribed to more meanwhile.
            let more = Set(session.subscriptions.names.map(ExactName.init)).subtracting(asked)
            guard more.isEmpty else {
                return self.loop.execute {
                    var places = here.value.places
                    places.merge(self.holdPlaces(more))
                    self.fetch(
                        search, from: owner, asked: asked.union(more), places: places, completion: here.value.completion
                    )
                }
            }
            let old = session.handOverTransport()
            owner.release(session)
            let moving = Moving(session: session)
            self.loop.execute {
                let (places, completion) = here.value
                self.settle(moving.session, places)
                for place in places.values { self.leave(place.subscription) }
                completion(.session(moving.session))
                guard let old else { return }
                // Whoever asked may be dead by now: then the old line is told to come again, not that it is replaced.
                let isReplaced = moving.session.transport != nil
                owner.loop.execute {
                    old.value.close(
                        isReplaced ? .sessionReplaced : .goingAway,
                        reason: isReplaced
                            ? "session replaced by a newer transport"
                            : "a newer transport asked for the session and died"
                    )
                }
            }
        }
    }

    /// A session between two loops. `@unchecked Sendable`: the old loop has forgotten it before the new one hears of it.
    private struct Moving: @unchecked Sendable {
        let session: Session
    }

    private func settle(_ session: Session, _ places: NameTable<Place>) {
        self.adopt(session)
        for subscription in session.subscriptions.values {
            let name = subscription.name
            subscription.topic = self.topic(name)
            subscription.session = session
            subscription.topic.add(subscription)
            self.setAlarm(subscription)
            var waiting = subscription.waiting ?? []
            let last = waiting.last?.sequence ?? subscription.seen
            for publication in places[name]?.subscription.waiting ?? [] where publication.sequence > last {
                waiting.append(publication)
                subscription.waitingBytes += publication.data.readableBytes
            }
            // Whatever comes from here on is live, and so is what was held back.
            if subscription.waiting == nil { subscription.liveFrom = subscription.seen }
            subscription.waiting = waiting
            guard places[name] == nil else { continue }
            // The broker has no room for it here. It cannot happen while the topic is in use, but must not be silent.
            let refusal = CallbackAnswer.Refusal(.serviceUnavailable)
            session.submit(.revoke(subscription, refusal), name)
        }
        // Not before all have taken over what their predecessors had waiting.
        session.catchUpAnew()
    }
}
