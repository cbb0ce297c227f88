import HoldfastCore
import HoldfastProtocol
import NIOCore

/// The planned stop: say so, give everybody time to go elsewhere, then close.
extension Gateway {
    /// How often a batch of clients is told to go.
    private static let batchInterval = 0.1

    /// Native clients get `goaway` and pick a time within the window; plain ones, which know no such word, are closed in
    /// batches over it. Whoever is left at the deadline is closed with 4012 or 1001.
    func drain() async {
        self.markDraining()
        let drain = self.configuration.drain
        let total = self.registry.transportCount
        self.logger.info("draining", metadata: ["transports": "\(total)", "window_s": "\(drain.window)"])
        let start = ContinuousClock.now
        let batches = max(1, Int(drain.window / Self.batchInterval))
        var told = Set<SessionName.Handle>()
        for batch in 0..<batches where self.registry.transportCount > 0 {
            let share = max(1, (total + batches - 1) / batches)
            await self.sendAway(atMost: share, window: drain.window, told: &told)
            await self.sleepWhileConnected(until: start + .seconds(Double(batch + 1) * Self.batchInterval))
        }
        await self.sleepWhileConnected(until: start + .seconds(max(drain.deadline, drain.window)))
        await self.onEveryShard { $0.closeTransports() }
        await self.sleepWhileConnected(until: .now + .seconds(min(1, self.configuration.limits.closeTime)))
        await self.finishSessions(by: start + .seconds(drain.deadline))
        self.logger.info("drained", metadata: ["left_behind": "\(self.registry.transportCount)"])
        // Those that did not answer the Close frame: the loops must not be stopped under open connections.
        await self.onEveryShard { shard in
            for transport in Array(shard.transports.values) { transport.drop() }
        }
    }

    /// How long services may take at least to be told of sessions that end late.
    private static let farewellTime = 2.0

    /// Those who are away end too, and services are told of each.
    private func finishSessions(by deadline: ContinuousClock.Instant) async {
        await self.onEveryShard { shard in
            for session in Array(shard.sessions.values) { session.end(nil, reason: "the gateway is being stopped") }
        }
        let end = max(deadline, .now + .seconds(Self.farewellTime))
        while self.registry.windingUpCount > 0, ContinuousClock.now < end {
            try? await Task.sleep(for: .milliseconds(10))
        }
        let left = self.registry.windingUpCount
        // Whatever is answered from here on is too late.
        await self.onEveryShard { $0.abandonSessions() }
        guard left > 0 else { return }
        self.logger.warning("services were not told of all sessions in time", metadata: ["sessions": "\(left)"])
    }

    /// Closes everybody with 1012, spread over the drain's window: SocketShark's way when Redis is lost.
    func sendEveryoneAway() async {
        self.logger.warning("closing all clients", metadata: ["window_s": "\(self.configuration.drain.window)"])
        for shard in self.shards {
            shard.loop.execute {
                for transport in shard.transports.values {
                    let wait = TimeAmount.milliseconds(
                        Int64(Double.random(in: 0...1) * self.configuration.drain.window * 1000))
                    let bound = NIOLoopBound(transport, eventLoop: shard.loop)
                    shard.loop.scheduleTask(in: wait) {
                        bound.value.session?.flushNow()
                        bound.value.close(.serviceRestart, reason: "the gateway has lost Redis")
                    }
                }
            }
        }
    }

    private func sendAway(atMost count: Int, window: Double, told: inout Set<SessionName.Handle>) async {
        var rest = count
        for shard in self.shards where rest > 0 {
            let known = told
            let limit = rest
            let names = try? await shard.loop.submit { shard.sendAway(atMost: limit, window: window, except: known) }
                .get()
            told.formUnion(names ?? [])
            rest -= names?.count ?? 0
        }
    }

    /// Waits until nobody is connected any more, or until the time given.
    private func sleepWhileConnected(until end: ContinuousClock.Instant) async {
        while self.registry.transportCount > 0, ContinuousClock.now < end {
            do {
                try await Task.sleep(until: min(end, .now + .milliseconds(20)), clock: .continuous)
            } catch {
                return
            }
        }
    }

    private func onEveryShard(_ body: @escaping @Sendable (Shard) -> Void) async {
        for shard in self.shards {
            do {
                try await shard.loop.submit { body(shard) }.get()
            } catch {
                self.logger.error("an event loop is gone", metadata: ["error": "\(error)"])
            }
        }
    }
}

extension Shard {
    /// Tells clients to go elsewhere within `window` seconds; plain ones, which know no such word, are closed.
    /// - Parameter told: sessions that know already.
    /// - Returns: those that were told now.
    func sendAway(atMost limit: Int, window: Double, except told: Set<SessionName.Handle>) -> [SessionName.Handle] {
        var names: [SessionName.Handle] = []
        for transport in self.transports.values where names.count < limit {
            guard let session = transport.session else { continue }
            guard !told.contains(session.name.handle) else { continue }
            names.append(session.name.handle)
            switch session.dialect {
            case .plain:
                session.flushNow()
                transport.close(.goingAway, reason: "the gateway is being stopped")
            case .native:
                session.record(.goaway)
                session.send(ServerEvent.goaway(reason: "drain", retryAfter: 0...window), isCounted: false)
            }
        }
        return names
    }

    /// The end of a drain's time.
    func closeTransports() {
        for transport in self.transports.values {
            let isPlain = transport.session?.dialect == .plain
            transport.session?.flushNow()
            transport.close(isPlain ? .goingAway : .drain, reason: "the gateway is being stopped")
        }
    }
}
