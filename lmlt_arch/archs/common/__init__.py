"""Parts that several families of networks share."""
