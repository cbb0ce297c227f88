import NIOCore

/// The way of the bytes and the ends, from the middlebox to the far socket.
extension Relay {
    func perform(_ outputs: [Middlebox.Output]) {
        for output in outputs where !self.isFinished {
            switch output {
            case .pass(let bytes, let direction): self.send(.bytes(bytes), direction)
            case .swallow(let bytes, let direction): self.core.count(swallowed: bytes, direction)
            case .reset: self.reset()
            case .duplicate(let request, let isHEAD): self.duplicate(request, isHEAD: isHEAD)
            case .upgraded: self.upgraded()
            case .note(let note): self.core.note(note, of: self)
            }
        }
    }

    func send(_ parcel: Parcel, _ direction: Directions) {
        var parcel = parcel
        if case .bytes(var bytes) = parcel {
            let isStruck = self.isStruck && self.faults.corrupt.contains(direction)
            let byte = isStruck ? self.faults.corruptByte : nil
            let isUpgraded = self.faults.traffic == .upgrades
            if self[direction].corruption.pass(&bytes, corrupting: byte, afterHandshake: isUpgraded) {
                self.core.countCorrupted(self, direction)
            }
            parcel = .bytes(bytes)
        }
        if self[direction].shaper.isEmpty, self[direction].shaper.settings == .none {
            return self.arrive(parcel, direction)
        }
        self[direction].shaper.add(parcel, now: .now())
        self.advance(direction)
    }

    /// Hands on what has got through the shaper by now.
    func advance(_ direction: Directions) {
        let now = NIODeadline.now()
        var hasArrived = false
        while let parcel = self[direction].shaper.next(now: now, using: &self.core.chance) {
            self.arrive(parcel, direction)
            hasArrived = true
        }
        self[direction].alarm?.cancel()
        self[direction].alarm = nil
        if let deadline = self[direction].shaper.deadline, !self.isFinished {
            self[direction].alarm = self.core.loop.assumeIsolated().scheduleTask(deadline: deadline) {
                self.advance(direction)
            }
        }
        guard hasArrived else { return }
        self.target(direction)?.flush()
        self.near(direction)?.resumeReading()
        self.finishIfOver()
    }

    private func arrive(_ parcel: Parcel, _ direction: Directions) {
        switch parcel {
        case .bytes(let bytes): self.perform(self[direction].pipe.received(bytes), on: direction)
        case .end(let end): self.perform(self[direction].pipe.ended(end), on: direction)
        }
    }

    // MARK: What the pipe says

    private func perform(_ action: Pipe.BytesAction, on direction: Directions) {
        switch action {
        case .pass(let bytes):
            self.core.count(passed: bytes.readableBytes, direction)
            self.target(direction)?.write(bytes)
        case .swallow(let bytes):
            self.core.count(swallowed: bytes, direction)
        case .hold:
            break
        }
    }

    func perform(_ action: Pipe.EndAction, on direction: Directions) {
        switch action {
        case .pass(.finish):
            self.target(direction)?.closeOutput()
        case .pass(.reset):
            self.target(direction)?.reset()
        case .swallow:
            self.lostAnEnd = true
            self.core.countSwallowedEnd()
        case .hold:
            break
        }
    }

    func perform(_ release: Pipe.Release, on direction: Directions) {
        for bytes in release.pass {
            self.core.count(passed: bytes.readableBytes, direction)
            self.target(direction)?.write(bytes)
        }
        self.target(direction)?.flush()
        self.core.count(swallowed: release.swallowedBytes, direction)
        if release.swallowedEnds > 0 {
            self.lostAnEnd = true
            self.core.countSwallowedEnd()
        }
        if let end = release.end {
            self.perform(.pass(end), on: direction)
        }
        // The near socket may have been waiting for the far one.
        self.near(direction)?.resumeReading()
    }

    private func target(_ direction: Directions) -> RelayHandler? {
        direction == .toServer ? self.server : self.client
    }

    private func near(_ direction: Directions) -> RelayHandler? {
        direction == .toServer ? self.client : self.server
    }

    subscript(_ direction: Directions) -> Lane {
        _read { if direction == .toServer { yield self.toServer } else { yield self.toClient } }
        _modify { if direction == .toServer { yield &self.toServer } else { yield &self.toClient } }
    }
}
