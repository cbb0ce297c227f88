import HoldfastCore
import HoldfastProtocol

/// What follows a `hello`, on whatever transport it came.
extension Shard {
    enum Greeting {
        /// The transport carries this session; the reply to `hello` is in its queue.
        case session(Session)
        /// A transport that asked later has the session.
        case superseded
        /// The gateway has as many sessions as it may have.
        case full
    }

    /// Goes on with the session that the client names, or opens a new one.
    /// - Parameters:
    ///   - isStillWanted: asked after the session was found, which may take time.
    ///   - completion: called once, on this loop, perhaps before this returns; not called if nobody wants it any more.
    func greet(
        _ hello: ClientHello,
        on transport: SessionTransport,
        isStillWanted: @escaping () -> Bool,
        completion: @escaping (Greeting) -> Void
    ) {
        guard let resume = hello.resume else { return completion(self.open(hello, on: transport)) }
        guard let name = resume.session else {
            self.metrics.resumesRefused += 1
            return completion(self.open(hello, on: transport))
        }
        self.find(name) { found in
            guard isStillWanted() else {
                // The transport died while the session was fetched: the session goes on waiting.
                if case .session(let session) = found { session.transportMissed() }
                return
            }
            switch found {
            case .session(let session):
                let isResumed = session.resume(on: transport, received: resume.received) {
                    self.gateway.hello(session.name, received: $0)
                }
                guard isResumed else { break }
                session.client = hello.client ?? session.client
                return completion(.session(session))
            case .refused(.superseded): return completion(.superseded)
            case .refused: break
            }
            self.metrics.resumesRefused += 1
            completion(self.open(hello, on: transport))
        }
    }

    private func open(_ hello: ClientHello, on transport: SessionTransport) -> Greeting {
        guard let session = self.openSession(.native) else { return .full }
        session.client = hello.client
        session.attach(transport)
        session.send(self.gateway.hello(session.name, received: nil), isCounted: false)
        return .session(session)
    }
}
