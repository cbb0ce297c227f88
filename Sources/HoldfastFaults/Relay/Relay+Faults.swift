import NIOCore

/// The standing faults of one connection, but for the cut.
extension Relay {
    /// Whether the faults that ``Faults/traffic`` filters strike this connection now.
    var isStruck: Bool { self.faults.traffic == .all || self.upgradedAt != nil }

    func apply(_ faults: Faults) {
        guard !self.isFinished else { return }
        self.faults = faults
        self.perform(self.middlebox.settingsChanged(to: faults.middlebox))
        self.applyTimes()
        self.client?.flush()
        self.server?.flush()
        self.client?.resumeReading()
        self.server?.resumeReading()
    }

    func upgraded() {
        self.upgradedAt = .now()
        self.toServer.corruption.upgraded()
        self.toClient.corruption.upgraded()
        self.applyTimes()
    }

    func duplicate(_ request: ByteBuffer, isHEAD: Bool) {
        // The copy would take a way round the cut.
        guard self.cut.line(.toServer) == .whole else { return }
        self.core.duplicate(request, isHEAD: isHEAD, of: self)
    }

    /// A FIN to the far side; what comes later in this direction is lost, the other direction goes on.
    func halfClose(_ direction: Directions) {
        guard !self.isFinished, case .open = self.upstream else { return }
        for one in [Directions.toServer, .toClient] where direction.contains(one) {
            self.send(.end(.finish), one)
        }
    }

    // MARK: Time

    private func applyTimes() {
        let now = NIODeadline.now()
        for direction in [Directions.toServer, .toClient] {
            let isStruck = self.isStruck && self.faults.directions.contains(direction)
            let settings = isStruck ? self.faults.shaping : .none
            guard settings != self[direction].shaper.settings else { continue }
            self[direction].shaper.settingsChanged(to: settings, now: now)
            self.advance(direction)
        }
        self.scheduleClosing()
    }

    /// One alarm for both ways to be closed; idleness is looked at when the alarm rings, not with every byte.
    private func scheduleClosing() {
        self.closing?.cancel()
        self.closing = nil
        guard self.isStruck, !self.isFinished else { return }
        let faults = self.faults
        let begin = faults.traffic == .upgrades ? self.upgradedAt ?? self.acceptedAt : self.acceptedAt
        let old = faults.closeAfterMs > 0 ? begin + .milliseconds(Int64(faults.closeAfterMs)) : nil
        let idle = faults.closeIdleMs > 0 ? self.lastBytesAt + .milliseconds(Int64(faults.closeIdleMs)) : nil
        guard let deadline = [old, idle].compactMap({ $0 }).min() else { return }
        self.closing = self.core.loop.assumeIsolated().scheduleTask(deadline: deadline) {
            let now = NIODeadline.now()
            if let old, old <= now { return self.finish("closed: it was \(faults.closeAfterMs) ms old") }
            let quiet = now - self.lastBytesAt
            if idle != nil, quiet >= .milliseconds(Int64(faults.closeIdleMs)) {
                return self.finish("closed: nothing was carried for \(faults.closeIdleMs) ms")
            }
            self.scheduleClosing()
        }
    }
}

extension Faults {
    var middlebox: Middlebox.Settings {
        Middlebox.Settings(
            upgrades: self.upgrades, bufferBytes: self.bufferBytes, duplicateRequests: self.duplicateRequests)
    }

    var shaping: Shaper.Settings {
        Shaper.Settings(
            latency: .milliseconds(Int64(self.latencyMs)), jitter: .milliseconds(Int64(self.jitterMs)),
            bandwidth: self.bandwidthBytes, dripBytes: self.dripBytes,
            dripInterval: self.dripBytes > 0 ? .milliseconds(Int64(self.dripMs)) : .zero,
            finDelay: .milliseconds(Int64(self.finDelayMs)))
    }

    /// Only what concerns the cable.
    var cable: Cut { Cut(directions: self.cut, packets: self.cutPackets) }
}
