/// The greeting, sans-IO: which command comes next, and what an answer means.
///
/// What a server says about `HELLO` and `AUTH` is never passed on: servers repeat the arguments of a command that they do
/// not know (`ERR unknown command 'HELLO', with args beginning with: ...`), and a password is one of them.
struct RESPHandshake: Equatable {
    enum Step: Equatable {
        /// Version, credentials and name at once (Redis 6 and later).
        case hello
        case authenticate
        case setName
        case select
        /// Where nothing else is to be said: a server that does not answer is no connection.
        case ping
    }

    enum Action: Equatable {
        case send(Step)
        case done(isRESP3: Bool)
        case fail(RESPError)
    }

    private let hasAuthentication: Bool
    private let hasName: Bool
    private let databaseNumber: Int
    private let isRESP2Wanted: Bool
    private var step: Step?
    private var isRESP3 = false

    init(_ configuration: RESPConnectionConfiguration) {
        self.hasAuthentication = configuration.authentication != nil
        self.hasName = configuration.clientName != nil
        self.databaseNumber = configuration.databaseNumber
        self.isRESP2Wanted = configuration.protocolVersion == .resp2
    }

    mutating func start() -> Action {
        guard self.isRESP2Wanted else { return self.send(.hello) }
        let action = self.startRESP2()
        return action == .done(isRESP3: false) ? self.send(.ping) : action
    }

    mutating func received(_ answer: RESPValue) -> Action {
        let error = answer.errorMessage
        switch self.step {
        case .hello: return error.map { self.helloRefused($0) } ?? self.helloAnswered(answer)
        case .authenticate:
            if let error { return .fail(Self.refusal("AUTH", error)) }
            return self.afterAuthentication()
        case .setName:
            // A name is for people: one who cannot have it connects without.
            return self.afterName()
        case .select:
            if let error {
                let message = "the server refused database \(self.databaseNumber): \(error)"
                return .fail(RESPError(error.hasPrefix("NOAUTH") ? .authenticationFailed : .handshakeFailed, message))
            }
            return .done(isRESP3: self.isRESP3)
        case .ping:
            // Any other error is of a server that is there, as one that loads its data.
            if let error, error.hasPrefix("NOAUTH") { return .fail(Self.refusal("PING", error)) }
            return .done(isRESP3: false)
        case nil: return .fail(.protocolError("an answer to nothing"))
        }
    }

    /// The words of a step.
    static func command(
        _ step: Step,
        _ configuration: RESPConnectionConfiguration
    ) -> (name: String, arguments: [RESPArgument]) {
        let authentication = configuration.authentication
        switch step {
        case .hello:
            var arguments: [RESPArgument] = ["3"]
            if let authentication {
                // HELLO has no form without a user name.
                arguments += ["AUTH", .string(authentication.username ?? "default"), .string(authentication.password)]
            }
            if let name = configuration.clientName { arguments += ["SETNAME", .string(name)] }
            return ("HELLO", arguments)
        case .authenticate:
            return ("AUTH", [authentication?.username, authentication?.password].compactMap { $0.map { .string($0) } })
        case .setName: return ("CLIENT", ["SETNAME", .string(configuration.clientName ?? "")])
        case .select: return ("SELECT", [RESPArgument(configuration.databaseNumber)])
        case .ping: return ("PING", [])
        }
    }

    private mutating func send(_ step: Step) -> Action {
        self.step = step
        return .send(step)
    }

    private mutating func startRESP2() -> Action {
        self.hasAuthentication ? self.send(.authenticate) : self.afterAuthentication()
    }

    private mutating func afterAuthentication() -> Action {
        self.hasName ? self.send(.setName) : self.afterName()
    }

    private mutating func afterName() -> Action {
        self.databaseNumber != 0 ? self.send(.select) : .done(isRESP3: self.isRESP3)
    }

    private mutating func helloAnswered(_ answer: RESPValue) -> Action {
        guard case .map(let entries) = answer,
            entries.contains(where: { $0.key.string == "proto" && $0.value.integer == 3 })
        else { return .fail(.protocolError("the server answered HELLO 3 without agreeing to RESP3")) }
        self.isRESP3 = true
        return self.afterName()
    }

    private mutating func helloRefused(_ error: String) -> Action {
        let isUnknown = error.hasPrefix("NOPROTO") || error.lowercased().contains("unknown command")
        // A server that knows HELLO does not ask for the password that is in it.
        let wantsAuthentication = self.hasAuthentication && error.hasPrefix("NOAUTH")
        return isUnknown || wantsAuthentication ? self.startRESP2() : .fail(Self.refusal("HELLO", error))
    }

    private static func refusal(_ command: String, _ error: String) -> RESPError {
        if error.contains("no password is set") || error.contains("without any password configured") {
            return RESPError(.authenticationFailed, "the server has no password, and one is configured here")
        }
        switch error.prefix(while: { $0 != " " }) {
        case "WRONGPASS":
            return RESPError(.authenticationFailed, "the server refused the user or the password (WRONGPASS)")
        case "NOAUTH": return RESPError(.authenticationFailed, "the server wants a password (NOAUTH)")
        case "NOPERM": return RESPError(.authenticationFailed, "the user may not connect like this (NOPERM)")
        case "LOADING": return RESPError(.handshakeFailed, "the server is loading its data (LOADING)")
        case "ERR" where error.contains("invalid password"):
            // Redis before 6.
            return RESPError(.authenticationFailed, "the server refused the password")
        case "ERR" where error.contains("max number of clients"):
            return RESPError(.handshakeFailed, "the server has as many clients as it takes")
        default:
            let code: RESPError.Code = command == "AUTH" ? .authenticationFailed : .handshakeFailed
            return RESPError(code, "the server refused \(command)")
        }
    }
}
