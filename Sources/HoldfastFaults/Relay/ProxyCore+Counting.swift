extension ProxyCore {
    func count(passed bytes: Int, _ direction: Directions) {
        if direction == .toServer {
            self.statistics.bytesToServer += bytes
        } else {
            self.statistics.bytesToClient += bytes
        }
    }

    func count(swallowed bytes: Int, _ direction: Directions) {
        if direction == .toServer {
            self.statistics.bytesSwallowedToServer += bytes
        } else {
            self.statistics.bytesSwallowedToClient += bytes
        }
    }

    func countSwallowedEnd() {
        self.statistics.endsSwallowed += 1
    }

    func countCorrupted(_ relay: Relay, _ direction: Directions) {
        self.statistics.bytesCorrupted += 1
        self.tell(relay, "byte corrupted \(direction.name)")
    }

    func note(_ note: Middlebox.Note, of relay: Relay) {
        switch note {
        case .upgradeRefused(let fault, let target):
            self.statistics.upgradesRefused += 1
            self.tell(relay, "upgrade \(target) \(fault.deed)")
        case .upgradePassed(let target):
            self.statistics.upgradesPassed += 1
            self.tell(relay, "upgraded \(target)")
        case .upgradeRefusedByServer(let status, let target):
            self.tell(relay, "upgrade \(target) answered by the server with \(status)")
        case .tooLargeToDuplicate(let target):
            self.tell(relay, "\(target) is not repeated: the limit is \(Middlebox.duplicateLimit) bytes")
        case .notHTTP:
            self.tell(relay, "not HTTP/1: carried without a look into it")
        }
    }

    /// - Parameter text: not made when nobody listens.
    func tell(_ relay: Relay?, _ text: @autoclosure () -> String) {
        guard let onEvent = self.configuration.onEvent else { return }
        onEvent(FaultProxy.Event(connection: relay.map(\.number), text: text()))
    }
}

extension UpgradeFault {
    fileprivate var deed: String {
        switch self {
        case .answer(let status): "answered with \(status)"
        case .hang: "left hanging"
        case .reset: "answered with RST"
        case .pass, .silent, .onlyToServer, .onlyToClient: "passed"
        }
    }
}
